"""A local Figshare: the API v2, the uploader service and storage behind presigned URLs, on 127.0.0.1.

It is a product of its own: anyone who writes a Figshare client can run it. It shares no code with the client
of figfs, so that one misreading of Figshare cannot hide in both. Where it imitates something seen, the source
is given as an entry of the list of quirks (D7, L14, U6, P1 …) or as the section of the API description. Where
nobody knows what Figshare does, the stricter of the likely answers is given, and the place says "unknown".
"""
