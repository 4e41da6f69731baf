"""The commands of curation as they are typed: each parses, calls one function, and prints what its text says."""

from curation.interrupts import end_at_once

end_at_once()
