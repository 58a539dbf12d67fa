"""torchrun as a script, which a fork server can start (tests/forked.py)."""

from torch.distributed.run import main

if __name__ == "__main__":
    main()
