"""The pictures that the other rooms measure on."""
