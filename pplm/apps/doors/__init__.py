"""What the server and the web page, the two doors that strangers come through, both check.

That is: the address, who may enter, what may be asked for, and how much. Of their extras it needs uvicorn alone, in
`connections`.
"""
