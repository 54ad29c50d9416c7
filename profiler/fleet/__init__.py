"""A campaign whose measurements run on boards elsewhere, through Dask. Nothing outside this folder imports Dask."""
