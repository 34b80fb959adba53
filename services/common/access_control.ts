/**
 * Who may call what over TCP, as data: rows say which role may use which method of which path, and what the caller must
 * own there. What no row names is refused; a service that was given no rows refuses every TCP request.
 *
 *     node        PUT  /v1/nodes/{name}            own:name    the object's name is the caller's
 *     node        PUT  /v1/ipcache/{name}          own:node    field `node` of the body and of what is stored is the caller's
 *
 * Local callers (unix sockets) have no peer and pass.
 * @module
 */
import { assertOwner, type Peer, PEER_ROLES, peerOf, type PeerRole, peerText } from "./peer.ts";
import { ProblemError, problemResponse } from "./problem.ts";

/** What a caller must own: nothing beyond its role; the object of its own name; objects whose `node` it is. */
export type Ownership = "name" | "node";

/** One permission. */
export interface AccessRow {
  readonly roles: readonly PeerRole[];
  readonly methods: readonly string[];
  /** Exact, or ending in `/{name}`, which takes the rest of the path. */
  readonly path: string;
  readonly own?: Ownership;
}

/** Answers every service gives to every peer that the cluster knows. */
const STANDARD = new Set(["/livez", "/readyz", "/version", "/openapi.json"]);

/** One stream of several collections; {@link checkWatch} looks at each. */
export const JOINT_WATCH_PATH = "/v1/watch";

const matched = new WeakMap<Request, AccessRow>();
const rowsOfJointWatch = new WeakMap<Request, readonly AccessRow[]>();

/** A handler that lets a request pass only when a row names it. */
export function guardAccess(
  handler: (request: Request) => Promise<Response> | Response,
  rows: readonly AccessRow[],
): (request: Request) => Promise<Response> | Response {
  return (request) => {
    try {
      authorize(request, rows);
    } catch (error) {
      request.body?.cancel().catch(() => {});
      return problemResponse(error);
    }
    return handler(request);
  };
}

/**
 * Finds the row that permits a request and checks what can be told from its path.
 * @throws {ProblemError} UNAUTHENTICATED (401), FORBIDDEN or NOT_OWNER (403)
 */
export function authorize(request: Request, rows: readonly AccessRow[]): void {
  const peer = peerOf(request);
  if (peer === undefined) return;
  const { pathname } = new URL(request.url);
  const method = request.method === "HEAD" ? "GET" : request.method;
  if (method === "GET" && STANDARD.has(pathname) && peer.role !== "anonymous") return;
  if (method === "POST" && pathname === JOINT_WATCH_PATH && peer.role !== "anonymous") {
    rowsOfJointWatch.set(request, rows);
    return;
  }
  const row = rows.find((row) => row.roles.includes(peer.role) && permits(row, method, pathname));
  if (row === undefined) throw refused(peer, method, pathname);
  if (row.own === "name") {
    const name = nameIn(row.path, pathname);
    assertOwner(peer, name ?? "", pathname);
  }
  matched.set(request, row);
}

/**
 * Checks ownership where it stands in the objects: the body as it was decoded, and what is stored under its name. The
 * routes of `ApiServer` call it before the handler.
 * @throws {ProblemError} NOT_OWNER, status 403
 */
export async function checkOwnership(
  request: Request,
  objects: { given?: unknown; stored?: () => unknown },
): Promise<void> {
  const peer = peerOf(request);
  if (peer === undefined || matched.get(request)?.own !== "node") return;
  const { pathname } = new URL(request.url);
  if (objects.given !== undefined) {
    assertOwner(peer, nodeOf(objects.given), pathname);
    for (const inner of Object.values(objects.given as object).filter(Array.isArray).flat()) {
      if (typeof inner === "object" && inner !== null && "node" in inner) {
        assertOwner(peer, nodeOf(inner), pathname);
      }
    }
  }
  const stored = await objects.stored?.();
  if (stored !== undefined) assertOwner(peer, nodeOf(stored), pathname);
}

/**
 * Checks that whoever asks for a joint stream may watch this collection.
 * @throws {ProblemError} FORBIDDEN, status 403
 */
export function checkWatch(request: Request, collection: string): void {
  const peer = peerOf(request);
  if (peer === undefined) return;
  const path = `/v1/${collection}:watch`;
  const isPermitted = rowsOfJointWatch.get(request)?.some((row) =>
    row.own === undefined && row.roles.includes(peer.role) && permits(row, "POST", path)
  );
  if (!isPermitted) throw refused(peer, "POST", path);
}

/** Whether a row names this call. A row that permits reading a collection permits watching it by names. */
export function permits(row: AccessRow, method: string, pathname: string): boolean {
  if (row.methods.includes("GET") && method === "POST" && pathname === `${row.path}:watch`) return true;
  if (!row.methods.includes(method)) return false;
  return row.path.endsWith("/{name}") ? nameIn(row.path, pathname) !== undefined : row.path === pathname;
}

/** The name that stands for `{name}`, decoded once; undefined when the path is another or its encoding is broken. */
function nameIn(pattern: string, pathname: string): string | undefined {
  const base = pattern.slice(0, -"{name}".length);
  if (!pathname.startsWith(base) || pathname.length === base.length) return undefined;
  try {
    return decodeURIComponent(pathname.slice(base.length));
  } catch {
    return undefined;
  }
}

function nodeOf(object: unknown): string {
  const { node } = object as { node?: unknown };
  return typeof node === "string" ? node : "";
}

function refused(peer: Peer, method: string, pathname: string): ProblemError {
  if (peer.role === "anonymous") {
    return new ProblemError("UNAUTHENTICATED", {
      status: 401,
      detail: `Cannot ${method} ${pathname}: the caller showed neither a certificate nor a token`,
      expected: "a certificate of this cluster, or Authorization: Bearer TOKEN",
      action: "Join the cluster (weir join), or make a token: weir cluster token --role viewer",
    });
  }
  return new ProblemError("FORBIDDEN", {
    status: 403,
    detail: `Cannot ${method} ${pathname} as ${peerText(peer)}: this role may not`,
    found: peer.role,
    action: "services/agent/access.ts says which role may call what",
  });
}

/** Rows as one text, the form in which a supervisor hands them to a service: `node PUT /v1/nodes/{name} own:name; ...`. */
export function formatAccess(rows: readonly AccessRow[]): string {
  return rows.map((row) =>
    `${row.roles.join(",")} ${row.methods.join(",")} ${row.path}${row.own ? ` own:${row.own}` : ""}`
  ).join("; ");
}

/**
 * Reads what {@link formatAccess} wrote.
 * @throws {ProblemError} ACCESS_INVALID
 */
export function parseAccess(text: string): AccessRow[] {
  return text.split(";").map((part) => part.trim()).filter((part) => part !== "").map((part) => {
    const [roles, methods, path, own, more] = part.split(/\s+/);
    const row: AccessRow = {
      roles: (roles ?? "").split(",") as PeerRole[],
      methods: (methods ?? "").split(","),
      path: path ?? "",
      ...(own === undefined ? {} : { own: own.replace(/^own:/, "") as Ownership }),
    };
    const good = row.roles.every((role) => PEER_ROLES.includes(role)) && row.path.startsWith("/") &&
      row.methods.every((method) => /^(GET|PUT|POST|DELETE)$/.test(method)) && more === undefined &&
      (own === undefined || own === "own:name" || own === "own:node") &&
      (row.own !== "name" || row.path.endsWith("/{name}"));
    if (good) return row;
    throw new ProblemError("ACCESS_INVALID", {
      detail: "Cannot read a row of the access table",
      found: part.slice(0, 200),
      expected: "ROLE[,ROLE] METHOD[,METHOD] /PATH[/{name}] [own:name|node]",
    });
  });
}
