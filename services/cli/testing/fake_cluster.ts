/**
 * An API server on loopback for tests of commands: it keeps objects by their paths, merges patches, and lets WebSockets be what a test
 * says. It starts nothing: what controllers would do, a test does in `onWrite`.
 * @module
 */
import { PORT_FORWARD_PROTOCOL } from "@weir/kubernetes/api";
import { CommandContext, type CommandIo } from "../context.ts";

// deno-lint-ignore no-explicit-any
type Json = any;

/** Dispose of it with `await using`. */
export class FakeCluster implements AsyncDisposable {
  /** By path: "/api/v1/namespaces/a/pods/b". */
  readonly objects = new Map<string, Json>();
  /** "PATCH /apis/...", in order. */
  readonly writes: { method: string; path: string; body: Json }[] = [];
  onWrite: ((method: string, path: string, body: Json) => void) | undefined;
  /** What a connection to a port of a pod is. Undefined: there is no such pod. */
  onPort: ((pod: string) => ((socket: WebSocket) => void) | undefined) | undefined;
  out = "";
  err = "";
  readonly interrupt = new AbortController();
  readonly #stop = new AbortController();
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  readonly #kubeconfig = Deno.makeTempFileSync();

  constructor() {
    const { signal } = this.#stop;
    this.#server = Deno.serve(
      { hostname: "127.0.0.1", port: 0, signal, onListen() {} },
      (request) => this.#answer(request),
    );
    Deno.writeTextFileSync(
      this.#kubeconfig,
      JSON.stringify({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{ name: "c", context: { cluster: "c", user: "u" } }],
        "clusters": [{ name: "c", cluster: { server: `http://127.0.0.1:${this.#server.addr.port}` } }],
        "users": [{ name: "u", user: {} }],
      }),
    );
  }

  /** Of a command that means it; what it says is in `out` and `err`. */
  get context(): CommandContext {
    const io: CommandIo = {
      out: (text) => void (this.out += text),
      err: (text) => void (this.err += text),
      terminal: false,
      readStdin: () => Promise.resolve(""),
      interrupted: this.interrupt.signal,
    };
    return new CommandContext(io, { kubernetes: { kubeconfig: this.#kubeconfig } });
  }

  /** Puts an object into the namespace where Weir is, another, or none (""). */
  put(base: string, plural: string, object: Json, namespace = "weir-system"): void {
    const inside = namespace === "" ? "" : `namespaces/${namespace}/`;
    const metadata = {
      ...(namespace === "" ? {} : { namespace }),
      generation: 1,
      resourceVersion: "1",
      ...object.metadata,
    };
    this.objects.set(`${base}/${inside}${plural}/${metadata.name}`, { kind: "Any", ...object, metadata });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#server.finished;
    await Deno.remove(this.#kubeconfig);
  }

  async #answer(request: Request): Promise<Response> {
    const { method } = request, url = new URL(request.url), path = url.pathname;
    if (path.endsWith("/portforward")) return this.#connect(request, path.split("/").at(-2)!);
    if (method === "GET") {
      const found = this.objects.get(path);
      if (found !== undefined) return Response.json(found);
      const plural = path.split("/").at(-1)!;
      if (!/^[a-z]+s$/.test(plural)) return missing(path);
      const [, base] = /^(.*?)(?:\/namespaces\/[^/]+)?\/[a-z]+$/.exec(path)!;
      const items = [...this.objects].filter(([at]) =>
        at.startsWith(`${path}/`) ||
        (!path.includes("/namespaces/") && at.startsWith(`${base}/`) && at.split("/").at(-2) === plural)
      );
      const labels = (url.searchParams.get("labelSelector") ?? "").split(",").filter((one) =>
        one.includes("=")
      );
      const chosen = items.map(([, item]) => item).filter(({ metadata }) =>
        labels.every((one) => one.includes("(") || metadata.labels?.[one.split("=")[0]] === one.split("=")[1])
      );
      return Response.json({ kind: "List", metadata: { resourceVersion: "1" }, items: chosen });
    }
    const text = await request.text(), body = text === "" ? {} : JSON.parse(text);
    this.writes.push({ method, path, body });
    const at = path.replace(/\/status$/, ""), before = this.objects.get(at);
    if (method === "DELETE") {
      if (before === undefined) return missing(path);
      this.objects.delete(at);
    } else {
      const isApply = request.headers.get("content-type")?.includes("apply");
      if (before === undefined && !isApply) return missing(path);
      const next = method === "PUT" ? body : merged(before ?? { metadata: { resourceVersion: "1" } }, body);
      this.objects.set(at, { kind: "Any", ...next });
    }
    this.onWrite?.(method, path, body);
    return Response.json(this.objects.get(at) ?? { kind: "Status", status: "Success" });
  }

  #connect(request: Request, pod: string): Response {
    const behave = this.onPort?.(pod);
    if (behave === undefined) return missing(pod);
    if (request.headers.get("upgrade") === null) {
      return Response.json({ message: "Upgrade" }, { status: 400 });
    }
    const { socket, response } = Deno.upgradeWebSocket(request, { protocol: PORT_FORWARD_PROTOCOL });
    socket.binaryType = "arraybuffer";
    socket.addEventListener("open", () => {
      for (const channel of [0, 1]) socket.send(Uint8Array.from([channel, 0, 0]));
      behave(socket);
    });
    return response;
  }
}

function missing(what: string): Response {
  const message = `${what} not found`;
  return Response.json({ kind: "Status", status: "Failure", reason: "NotFound", message, code: 404 }, {
    status: 404,
  });
}

function merged(before: Json, patch: Json): Json {
  if (typeof patch !== "object" || patch === null || Array.isArray(patch)) return patch;
  const next = { ...before };
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete next[key];
    else next[key] = merged(next[key], value);
  }
  return next;
}
