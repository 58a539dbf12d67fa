"""The part of each batch that one of several readers reads."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Shard:
    """One of `size` readers that divide every batch; together they read each image once.

    What a batch contains is drawn for the whole batch before it is divided, so that the parts, one
    after another, are the batch of a single reader.

    Args:
        rank: number of this reader, from 0 to size - 1.
    """

    rank: int = 0
    size: int = 1

    def of(self, values: Tensor) -> Tensor:
        """This reader's part (b, ...) of `values` (B, ...), a view.

        The parts differ by at most one entry, the first ones are larger. Of fewer entries than
        readers, some parts are empty.
        """
        return values.tensor_split(self.size)[self.rank]


WHOLE = Shard()
