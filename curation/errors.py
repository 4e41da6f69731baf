"""Every error the pipeline raises on purpose, and the exit code it leaves with.

FaceCaptionError                 70  a bug, unless a subclass says otherwise
 ├── UsageError                   2  a path or an argument is wrong
 │    └── RecipeError             2  a recipe does not hold; names file, key and choices
 ├── ShardError                   1  one shard cannot be read or written; names the file; the others go on
 ├── StorageError                 1  a disk or store refuses to write or read; names the file
 │    └── DiskFullError           1  there is no room; the run stops, what is committed stays
 ├── ClusterError                 1  Ray does not start on this machine; says what may help
 ├── (no error)                   4  `forget` is done, but a request found nothing or a place was not reached: named
 ├── VerificationError            5  what lies on disk is not what the manifest says
 ├── SafetyError                  6  a gate refuses the run
 ├── LeaseError                  75  another run holds the folder
 ├── WeightsError                 6  weights have another sha256 (`filters.weights`)
 │    └── MissingWeightsError     6  weights are not here; says how to get them
 ├── ConversionError              6  weights cannot be converted; names the layer (`filters.conversion`)
 ├── DeviceError                  2  a device is named that cannot be used here (`filters.loading`)
 ├── DeviceServerError            1  a device server is gone; others are tried first (`filters.device.client`)
 ├── DataError                    1  too many samples cannot be trained on; names them (`facemakeup.faults`)
 ├── ReadingError                 1  a sample could not be read, not by its own fault (`facemakeup.faults`)
 ├── NonFiniteError               1  weights or gradients are not finite; names them (`facemakeup.model.finite`)
 ├── PeerError                    -  another process of a training failed; its code (`facemakeup.training.ranks`)
 ├── RecogniserError              6  a recogniser is not the expected one, or its terms are not accepted
 ├── SampleFaultError             -  a sample cannot be trained on; becomes a counted reason (`facemakeup.faults`)
 ├── PluginError                  2  what a distribution brings cannot be loaded; names it (`filters.plugins`)
 ├── BackendError                 2  an optional detector's package is not installed
 ├── BlockedAddressError          -  not a public address; becomes a recorded reason of `fetch`
 ├── UnreadableError              -  the decode gate refuses a file; becomes a recorded reason
 └── ContainerError               -  a picture's container cannot be walked; becomes a recorded reason
"""

from filters.base import FaceCaptionError
from filters.weights import WeightsError

__all__ = [
    "ClusterError",
    "DiskFullError",
    "FaceCaptionError",
    "LeaseError",
    "RecipeError",
    "SafetyError",
    "ShardError",
    "StorageError",
    "UsageError",
    "VerificationError",
    "WeightsError",
]


class UsageError(FaceCaptionError):
    """A path or an argument is wrong."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe does not hold: the message names the file, the key, what is wrong and what would be right."""


class ShardError(FaceCaptionError):
    """One shard cannot be read or written: the message names its file."""

    exit_code = 1


class StorageError(FaceCaptionError):
    """A disk or store refuses to write or read: the message names the file and what the system said."""

    exit_code = 1


class DiskFullError(StorageError):
    """There is no room; the run stops, what is committed stays."""


class ClusterError(FaceCaptionError):
    """Ray does not start on this machine: the message says what it said, and what may help; nothing was done."""

    exit_code = 1


class VerificationError(FaceCaptionError):
    """What lies on disk is not what the manifest says."""

    exit_code = 5


class SafetyError(FaceCaptionError):
    """A gate refuses the run."""

    exit_code = 6


class LeaseError(FaceCaptionError):
    """Another run holds the folder, or took it over."""

    exit_code = 75
