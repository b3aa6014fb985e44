"""Sources of questions other than the synthetic ones: files, saved data sets and the Hub.

A reader returns a `Table` of rows. `_layout` finds the roles of the columns. `_any_layout` or
`_sciknoweval` makes a `Question` from each row and records its errors.

**To add a kind of file**, write a function from a path to rows, as in `_json.py`, and list it in
`READERS` of `_read.py`. No other file names it.
"""

from pgpo_jax.tasks.sources._columns import ColumnsConfig as ColumnsConfig
from pgpo_jax.tasks.sources._read import (
    held_out_source as held_out_source,
    is_data_set as is_data_set,
    is_source as is_source,
    load_sciknoweval as load_sciknoweval,
    read_held_out as read_held_out,
    read_questions as read_questions,
)
