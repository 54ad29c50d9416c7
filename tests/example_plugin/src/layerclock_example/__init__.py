"""An example plug-in for Layerclock: nothing here imports more of it than its public seams."""
