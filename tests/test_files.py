"""Tables, whole files and the progress bar."""

from pplm.files.tables import markdown_table


def test_a_tables_columns_line_up_and_a_cell_keeps_it_whole():
    assert markdown_table(["name", "b"], [["x|y", "two\nlines"], ["z", ""]]) == [
        "| name | b         |",
        "| ---  | ---       |",
        "| x\\|y | two lines |",
        "| z    |           |",
    ]


def test_a_very_long_cell_does_not_widen_its_column_beyond_reading():
    head, rule, long, short = markdown_table(["a"], [["x" * 100], ["y"]])
    assert len(head) == len(rule) == len(short) == 44
    assert "x" * 100 in long
