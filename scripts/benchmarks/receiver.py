"""The writing side of the server: uploads as Figshare takes them, in nginx; and WebDAV for rclone.

A file is announced, its parts are put, it is completed; it is ``available`` at once. Parts are files in
memory; nothing computes an MD5, since the service does not do that on this machine. Where connections are
capped, Lua takes the bytes no faster than that: SO_MAX_PACING_RATE slows only what is sent.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

PART = 10 << 20  #: bytes (quirks U3)
START_TIMEOUT = 10.0  #: seconds
PIECE = 64 << 10  #: bytes that a capped connection is given at once


def shared(root: Path) -> str:
    """Of nginx's configuration: what all servers have."""
    return f"""    client_body_temp_path {root}/temporary;
    client_body_buffer_size 64k;
    lua_shared_dict uploads 64m;
    init_by_lua_block {{
        local known = ngx.shared.uploads
        local this = {{}}

        -- A new file from the body of its announcement; its id.
        function this.announce(article)
            ngx.req.read_body()
            local body = ngx.req.get_body_data() or ""
            local id = known:incr("last", 1, 100000000)
            local name = string.match(body, '"name":"([^"]*)"')
            local size = string.match(body, '"size":(%d+)')
            local md5 = string.match(body, '"md5":"(%x+)"') or ""
            known:set("file" .. id, table.concat({{article, size, md5, name}}, "/"))
            known:set(article .. ":" .. known:incr("count" .. article, 1, 0), id)
            return id
        end

        function this.complete(id)
            known:set("complete" .. id, true)
        end

        function this.fields(id)
            return string.match(known:get("file" .. id) or "", "^(%d+)/(%d+)/(%x*)/(.*)$")
        end

        -- The record of a file, as JSON; nil if there is none.
        function this.record(id)
            local article, size, md5, name = this.fields(id)
            if not article then
                return nil
            end
            local complete = known:get("complete" .. id)
            local origin = ngx.var.scheme .. "://" .. ngx.var.http_host
            return '{{"id":' .. id .. ',"name":"' .. name .. '","size":' .. size .. ',"is_link_only":false'
                .. ',"download_url":"","supplied_md5":"' .. md5
                .. '","computed_md5":"' .. (complete and md5 or "")
                .. '","upload_url":"' .. (complete and "" or origin .. "/upload/" .. id)
                .. '","upload_token":"","status":"' .. (complete and "available" or "created") .. '"}}'
        end

        -- The ids of an article's files.
        function this.files(article)
            local found = {{}}
            for number = 1, known:get("count" .. article) or 0 do
                found[number] = known:get(article .. ":" .. number)
            end
            return found
        end

        function this.list(article)
            local records = {{}}
            for _, id in ipairs(this.files(article)) do
                records[#records + 1] = this.record(id)
            end
            return "[" .. table.concat(records, ",") .. "]"
        end

        function this.session(id)
            local _, size = this.fields(id)
            size = tonumber(size)
            local parts = {{}}
            for start = 0, size - 1, {PART} do
                local last = math.min(start + {PART}, size) - 1
                parts[#parts + 1] = string.format(
                    '{{"partNo":%d,"startOffset":%d,"endOffset":%d,"status":"PENDING","locked":false}}',
                    #parts + 1, start, last)
            end
            return '{{"token":"x","size":' .. string.format("%d", size) .. ',"status":"PENDING","parts":['
                .. table.concat(parts, ",") .. "]}}"
        end

        package.loaded.uploads = this
    }}"""


def locations(root: Path, cap: int | None, webdav_port: int) -> str:
    """Of nginx's configuration: what each server has."""
    if cap is None:
        take = "dav_methods PUT; create_full_put_path on;"
    else:
        take = f"""content_by_lua_block {{
                local left = tonumber(ngx.var.http_content_length)
                local began, taken = ngx.now(), 0
                local source = ngx.req.socket()
                local path = "{root}" .. ngx.var.uri
                os.execute("mkdir -p " .. string.match(path, "^(.*)/"))
                local file = io.open(path, "wb")
                while left > 0 do
                    local data = source:receive(math.min(left, {PIECE}))
                    if not data then
                        return ngx.exit(444)
                    end
                    file:write(data)
                    left, taken = left - #data, taken + #data
                    ngx.update_time()
                    local ahead = taken / {cap} - (ngx.now() - began)
                    if ahead > 0 then
                        ngx.sleep(ahead)
                    end
                end
                file:close()
                ngx.say("OK")
            }}"""
    return f"""        location ~ ^/upload/\\w+$ {{
            default_type application/json;
            content_by_lua_block {{
                ngx.print(require("uploads").session(string.match(ngx.var.uri, "(%w+)$")))
            }}
        }}
        location ~ ^/upload/\\w+/\\d+$ {{
            {take}
        }}
        location ~ ^/uploads/v2/account/articles/(?<article>\\d+)/files$ {{
            default_type application/json;
            content_by_lua_block {{
                local uploads = require("uploads")
                if ngx.req.get_method() == "POST" then
                    local id = uploads.announce(ngx.var.article)
                    ngx.status = 201
                    local here = ngx.var.scheme .. "://" .. ngx.var.http_host .. ngx.var.uri
                    ngx.print('{{"location":"' .. here .. "/" .. id .. '"}}')
                elseif ngx.var.arg_page and ngx.var.arg_page ~= "1" then
                    ngx.print("[]")
                else
                    ngx.print(uploads.list(ngx.var.article))
                end
            }}
        }}
        location ~ ^/uploads/v2/account/articles/\\d+/files/(?<file>\\d+)$ {{
            default_type application/json;
            content_by_lua_block {{
                local uploads = require("uploads")
                local record = uploads.record(ngx.var.file)
                if not record then
                    return ngx.exit(404)
                elseif ngx.req.get_method() == "POST" then
                    uploads.complete(ngx.var.file)
                    ngx.status = 202
                    ngx.print("OK")
                else
                    ngx.print(record)
                end
            }}
        }}
        location ~ ^/bench/stored/(?<article>\\d+)$ {{
            access_log off;
            access_by_lua_block {{ ngx.sleep(0) }}
            content_by_lua_block {{
                local uploads = require("uploads")
                for _, id in ipairs(uploads.files(ngx.var.article)) do
                    if ngx.shared.uploads:get("complete" .. id) then
                        local _, size, _, name = uploads.fields(id)
                        ngx.say(id .. "/" .. size .. "/" .. name)
                    end
                end
            }}
        }}
        location /dav/ {{
            proxy_pass http://127.0.0.1:{webdav_port};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_request_buffering off;
        }}"""


def stored(origin: str, root: Path, article: int) -> list[tuple[str, list[Path]]]:
    """Name and parts of the article's files that are complete."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{origin}/bench/stored/{article}", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    found = []
    for line in lines:
        number, size, name = line.split("/", 2)
        count = -(-int(size) // PART)
        found.append((name, [root / "upload" / number / str(part) for part in range(1, count + 1)]))
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


@contextlib.contextmanager
def webdav(rclone: str, port: int, directory: Path) -> Iterator[None]:
    """``rclone serve webdav`` of a new, empty ``directory``, which is gone afterwards."""
    directory.mkdir()
    process = subprocess.Popen(
        [
            *(rclone, "serve", "webdav", "--config", os.devnull, "--baseurl", "/dav"),
            *("--addr", f"127.0.0.1:{port}", str(directory)),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        give_up_at = time.monotonic() + START_TIMEOUT
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > give_up_at:
                    raise RuntimeError("rclone serve webdav does not start") from None
                time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(directory, ignore_errors=True)
