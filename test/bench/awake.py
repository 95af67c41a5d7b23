"""Keep idle cores awake while something is measured.

A core with nothing to do halts, and in a virtual machine it takes up to 0.1 ms to come back: half a query.  How often
that happens depends on the host's mood, not on what is measured.  Linux lets root ask for a latency of nothing for as
long as a file is open."""

import struct

PATH = "/dev/cpu_dma_latency"
request = None


def awake():
    """Ask for it until this process ends; where that cannot be, all is measured as it is."""
    global request
    try:
        request = open(PATH, "wb", buffering=0)
        request.write(struct.pack("i", 0))
    except OSError:
        print(f"cores may halt between queries ({PATH} cannot be opened)", flush=True)
