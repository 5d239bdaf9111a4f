"""What every door that strangers come through checks: where it stands, who may enter, what may be asked, how much.

The server and the web page share it. It needs none of their extras but for uvicorn, in `connections` alone.
"""
