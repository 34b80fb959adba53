/** The rules of the benches of HTTP, for every proxy that they measure. @module */

/** Method and path, regular expressions over the whole value. The bench's requests mean the last one. */
export const HTTP_RULES: readonly { method: string; path: string }[] = [
  { method: "POST", path: "/admin/.*" },
  { method: "GET", path: "/public/.*" },
];
