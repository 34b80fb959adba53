/** The fields that every table of HPACK begins with (RFC 7541, appendix A). @module */
import { HeaderField } from "./header_field.ts";

const STATIC = `:authority
:method GET
:method POST
:path /
:path /index.html
:scheme http
:scheme https
:status 200
:status 204
:status 206
:status 304
:status 400
:status 404
:status 500
accept-charset
accept-encoding gzip, deflate
accept-language
accept-ranges
accept
access-control-allow-origin
age
allow
authorization
cache-control
content-disposition
content-encoding
content-language
content-length
content-location
content-range
content-type
cookie
date
etag
expect
expires
from
host
if-match
if-modified-since
if-none-match
if-range
if-unmodified-since
last-modified
link
location
max-forwards
proxy-authenticate
proxy-authorization
range
referer
refresh
retry-after
server
set-cookie
strict-transport-security
transfer-encoding
user-agent
vary
via
www-authenticate`;

/** By index; the first one has index 1. */
export const STATIC_TABLE: readonly HeaderField[] = STATIC.split("\n").map((line) => {
  const [, name, value = ""] = /^(\S+)(?: (.*))?$/.exec(line)!;
  return new HeaderField(name, value, false, true);
});

/** Index of the first field with a name. */
export const INDEX_OF_NAME: ReadonlyMap<string, number> = new Map(
  STATIC_TABLE.map(({ name }, at) => [name, at + 1] as const).reverse(),
);

/** Index of the field with a name and a value, as "name\0value". */
export const INDEX_OF_FIELD: ReadonlyMap<string, number> = new Map(
  STATIC_TABLE.map(({ name, value }, at) => [`${name}\0${value}`, at + 1] as const),
);
