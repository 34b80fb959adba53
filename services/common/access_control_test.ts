import { deepEqual, equal, throws } from "node:assert/strict";
import {
  type AccessRow,
  authorize,
  formatAccess,
  guardAccess,
  parseAccess,
  permits,
} from "./access_control.ts";
import { type Peer, setPeer } from "./peer.ts";
import type { ProblemError } from "./problem.ts";

const ROWS: AccessRow[] = [
  { roles: ["node", "viewer"], methods: ["GET"], path: "/v1/nodes" },
  { roles: ["node"], methods: ["PUT", "DELETE"], path: "/v1/nodes/{name}", own: "name" },
  { roles: ["admin"], methods: ["DELETE"], path: "/v1/nodes/{name}" },
  { roles: ["anonymous"], methods: ["POST"], path: "/v1/certificates:issue" },
];
const NODE: Peer = { role: "node", node: "node-2" };

function codeOf(peer: Peer | undefined, method: string, path: string, rows = ROWS): string {
  const request = new Request(`http://x${path}`, { method });
  if (peer !== undefined) setPeer(request, peer);
  try {
    authorize(request, rows);
    return "ok";
  } catch (error) {
    return (error as ProblemError).code;
  }
}

Deno.test("authorize() lets through what a row names, and nothing else", () => {
  const cases: [Peer | undefined, string, string, string][] = [
    [undefined, "DELETE", "/v1/anything", "ok"],
    [NODE, "GET", "/v1/nodes", "ok"],
    [NODE, "HEAD", "/v1/nodes", "ok"],
    [NODE, "GET", "/v1/nodes?watch=true", "ok"],
    [NODE, "POST", "/v1/nodes:watch", "ok"],
    [{ role: "admin", node: "a" }, "POST", "/v1/nodes:watch", "FORBIDDEN"],
    [NODE, "PUT", "/v1/nodes/node-2", "ok"],
    [NODE, "PUT", "/v1/nodes/node%2D2", "ok"],
    [NODE, "PUT", "/v1/nodes/node-1", "NOT_OWNER"],
    [NODE, "PUT", "/v1/nodes/node-2/../node-1", "NOT_OWNER"],
    [NODE, "PUT", "/v1/nodes/node-2%2f..%2fnode-1", "NOT_OWNER"],
    [NODE, "PUT", "/v1/nodes/node-2/x", "NOT_OWNER"],
    [NODE, "PUT", "/v1/nodes/%ff", "FORBIDDEN"],
    [NODE, "PUT", "/v1/nodes/", "FORBIDDEN"],
    [NODE, "PUT", "/v1/%6eodes/node-1", "FORBIDDEN"],
    [NODE, "PUT", "//v1/nodes/node-2", "FORBIDDEN"],
    [NODE, "PATCH", "/v1/nodes/node-2", "FORBIDDEN"],
    [NODE, "DELETE", "/v1/nodes/node-1", "NOT_OWNER"],
    [{ role: "admin", node: "a" }, "DELETE", "/v1/nodes/node-1", "ok"],
    [{ role: "viewer", node: "v" }, "GET", "/v1/nodes", "ok"],
    [{ role: "viewer", node: "v" }, "DELETE", "/v1/nodes/v", "FORBIDDEN"],
    [{ role: "viewer", node: "v" }, "GET", "/readyz", "ok"],
    [{ role: "anonymous", node: "" }, "GET", "/v1/nodes", "UNAUTHENTICATED"],
    [{ role: "anonymous", node: "" }, "GET", "/readyz", "UNAUTHENTICATED"],
    [{ role: "anonymous", node: "" }, "POST", "/v1/certificates:issue", "ok"],
  ];
  for (const [peer, method, path, code] of cases) {
    equal(codeOf(peer, method, path), code, `${peer?.role} ${method} ${path}`);
  }
});

Deno.test("authorize() refuses everybody where there are no rows", () => {
  for (const role of ["control-plane", "node", "admin", "viewer", "anonymous"] as const) {
    equal(codeOf({ role, node: "x" }, "GET", "/v1/nodes", []) === "ok", false, role);
  }
});

Deno.test("guardAccess() answers a problem and does not call the handler", async () => {
  let calls = 0;
  const guarded = guardAccess(() => (calls++, new Response("ok")), ROWS);
  const request = new Request("http://x/v1/nodes/node-1", { method: "PUT", body: "{}" });
  setPeer(request, NODE);
  const answer = await guarded(request);
  deepEqual([answer.status, (await answer.json()).code, calls], [403, "NOT_OWNER", 0]);
});

Deno.test("parseAccess() reads what formatAccess() writes, and refuses what is no row", () => {
  deepEqual(parseAccess(formatAccess(ROWS)), ROWS);
  deepEqual(parseAccess(""), []);
  for (
    const text of [
      "root GET /x",
      "node FETCH /x",
      "node GET x",
      "node GET",
      "node",
      "node GET /x own:all",
      "node GET /x own:name",
      "node GET /x/{name} own:name more",
    ]
  ) throws(() => parseAccess(text), { code: "ACCESS_INVALID" }, text);
});

Deno.test("permits() takes a pattern's end only for {name}", () => {
  const row: AccessRow = { roles: ["node"], methods: ["GET"], path: "/v1/nodes" };
  equal(permits(row, "GET", "/v1/nodes/x"), false);
  equal(permits({ ...row, path: "/v1/nodes/{name}" }, "GET", "/v1/nodes"), false);
});
