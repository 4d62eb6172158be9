"""Workers: whoever can answer."""
