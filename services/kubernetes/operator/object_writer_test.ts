import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import { ApiClient, FixedToken, type KubernetesObject, RESOURCES } from "../api/mod.ts";
import { FakeApiServer, statusAnswer } from "../testing/fake_api_server.ts";
import { ObjectWriter, type Wanted } from "./object_writer.ts";
import { LEASE_TIMES, Term } from "./term.ts";

const PACE = { ratePerS: 1000, burst: 1000, parallelMax: 4, delayMs: 1 };
const OURS = { "app.kubernetes.io/managed-by": "weir" };

/** A writer of CiliumEndpoints, and an API server whose answers to writes a test chooses. */
class Bed implements AsyncDisposable {
  readonly server = new FakeApiServer(RESOURCES.CiliumEndpoint);
  readonly wanted = new Map<string, unknown>();
  /** "METHOD name" of every write. */
  readonly writes: string[] = [];
  /** What is answered in place of the usual. */
  instead: (method: string, name: string) => Response | undefined = () => undefined;
  readonly objects: ObjectWriter;
  readonly #client: ApiClient;
  readonly #term: Term;
  #running: Promise<void> | undefined;

  constructor() {
    this.#client = new ApiClient({ server: this.server.url, authorities: [], token: new FixedToken("t") });
    this.#term = new Term(this.#client.clock, { ...LEASE_TIMES, renewMs: 600_000, leaseMs: 600_000 });
    this.objects = new ObjectWriter(this.#client, this.#term, {
      resource: RESOURCES.CiliumEndpoint,
      fields: ["status"],
      wanted: (key) => this.#wanted(key),
      keys: () => this.wanted.keys(),
      isComplete: () => true,
      pace: PACE,
    });
    this.server.intercept = (request, url) =>
      request.method === "GET" ? undefined : this.#write(request, url);
  }

  #wanted(key: string): Wanted | undefined {
    if (!this.wanted.has(key)) return undefined;
    return {
      metadata: { name: key.split("/")[1], namespace: "default" },
      body: { status: this.wanted.get(key) },
    };
  }

  want(name: string, status: unknown): void {
    this.wanted.set(`default/${name}`, status);
    this.objects.writer.changed(`default/${name}`);
  }

  statusOf(name: string): unknown {
    return this.server.objects.get(`default/${name}`)?.status;
  }

  async start(): Promise<this> {
    await this.objects.writer.read(this.#term.signal);
    this.objects.writer.begin();
    this.#running = this.objects.writer.run();
    return this;
  }

  async #write(request: Request, { pathname }: URL): Promise<Response> {
    const body = await request.json(), method = request.method;
    const name = method === "POST" ? body.metadata.name : pathname.split("/").at(-1)!;
    this.writes.push(`${method} ${name}`);
    const instead = this.instead(method, name);
    if (instead !== undefined) return instead;
    const there = this.server.objects.get(`default/${name}`);
    if (method === "POST") {
      if (there !== undefined) return statusAnswer(409, "AlreadyExists");
      this.server.put(name, { metadata: body.metadata, status: body.status });
    } else if (there === undefined) return statusAnswer(404, "NotFound");
    else if (method === "DELETE") {
      if (body.preconditions.resourceVersion !== there.metadata.resourceVersion) {
        return statusAnswer(409, "Conflict");
      }
      this.server.delete(name);
      return Response.json({ kind: "Status", status: "Success" });
    } else {
      const { path, value } = body[0];
      assert.equal(path, "/metadata/resourceVersion");
      if (value !== there.metadata.resourceVersion) return statusAnswer(409, "Conflict");
      const status = body.find((one: { path: string }) => one.path === "/status")?.value ?? there.status;
      this.server.put(name, { metadata: there.metadata, status });
    }
    return Response.json(this.server.objects.get(`default/${name}`) as KubernetesObject);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#term.end();
    await this.#running;
    this.#client.close();
    await this.server[Symbol.asyncDispose]();
  }
}

Deno.test("ObjectWriter makes, changes and deletes, and leaves alone what is not Weir's", async () => {
  await using bed = new Bed();
  bed.server.put("theirs", { status: { a: 1 } });
  bed.server.put("left", { metadata: { name: "left", labels: OURS }, status: {} });
  for (const name of ["mine", "theirs"]) bed.wanted.set(`default/${name}`, { id: 1 });
  await bed.start();
  await until("it is made", () => bed.statusOf("mine") !== undefined && bed.statusOf("left") === undefined);
  bed.want("mine", { id: 2 });
  await until("it is changed", () => JSON.stringify(bed.statusOf("mine")) === '{"id":2}');
  bed.want("theirs", { id: 3 });
  bed.wanted.delete("default/theirs");
  bed.objects.writer.changed("default/theirs");
  await bed.objects.writer.whenIdle();
  assert.deepEqual(bed.statusOf("theirs"), { a: 1 });
  assert.deepEqual(bed.writes.sort(), ["DELETE left", "PATCH mine", "POST mine"]);
});

Deno.test("ObjectWriter: a storm of conflicts ends with what is wanted, in few requests", async () => {
  await using bed = await new Bed().start();
  bed.want("a", { id: 1 });
  await until("it is there", () => bed.statusOf("a") !== undefined);
  let conflicts = 5;
  bed.instead = (method, name) => {
    if (method !== "PATCH" || conflicts-- <= 0) return undefined;
    // Somebody is always a little faster.
    const there = bed.server.objects.get(`default/${name}`)!;
    bed.server.put(name, { metadata: there.metadata, status: { id: 100 + conflicts } });
    return statusAnswer(409, "Conflict");
  };
  bed.want("a", { id: 2 });
  await until("it is as wanted", () => JSON.stringify(bed.statusOf("a")) === '{"id":2}');
  await bed.objects.writer.whenIdle();
  assert.equal(bed.writes.filter((one) => one === "PATCH a").length, 6);
  assert.equal(bed.objects.writer.faults.size, 0);
});

Deno.test("ObjectWriter: an object that goes while it is changed is made anew", async () => {
  await using bed = await new Bed().start();
  bed.want("a", { id: 1 });
  await until("it is there", () => bed.statusOf("a") !== undefined);
  bed.instead = (method, name) => {
    if (method !== "PATCH") return undefined;
    bed.instead = () => undefined;
    bed.server.delete(name);
    return statusAnswer(404, "NotFound");
  };
  bed.want("a", { id: 2 });
  await until("it is there again", () => JSON.stringify(bed.statusOf("a")) === '{"id":2}');
  assert.deepEqual(bed.writes, ["POST a", "PATCH a", "POST a"]);
});

Deno.test("ObjectWriter: what is refused is a fault with its reason, and everything else goes on", async () => {
  await using bed = await new Bed().start();
  bed.instead = (_, name) => name === "bad" ? statusAnswer(403, "Forbidden", "may not") : undefined;
  bed.want("bad", {});
  for (let i = 0; i < 50; i++) bed.want(`good-${i}`, { id: i });
  await until("the others are there", () => bed.server.objects.size === 50);
  await until("it is a fault", () => bed.objects.writer.faults.get("default/bad") !== undefined);
  assert.match(bed.objects.writer.faults.get("default/bad")!.error.message, /may not/);
  bed.instead = () => undefined;
  await until("it is there once it may", () => bed.statusOf("bad") !== undefined);
  await until("no fault is left", () => bed.objects.writer.faults.size === 0);
});

Deno.test("ObjectWriter: 429 holds up every write for as long as it says", async () => {
  await using bed = await new Bed().start();
  let refused = 0;
  bed.instead = () => {
    if (refused > 0) return undefined;
    refused = performance.now();
    return new Response("{}", { status: 429, headers: { "retry-after": "1" } });
  };
  for (let i = 0; i < 20; i++) bed.want(`a-${i}`, { id: i });
  await until("all are there", () => bed.server.objects.size === 20);
  assert.ok(performance.now() - refused >= 1000);
  // Those that were on their way, and no more, came before.
  assert.ok(bed.writes.length <= 20 + PACE.parallelMax, `${bed.writes.length} requests`);
});

Deno.test("ObjectWriter: an API server that keeps something else is not asked again and again", async () => {
  await using bed = await new Bed().start();
  bed.want("a", { id: 1 });
  await until("it is there", () => bed.statusOf("a") !== undefined);
  bed.instead = (method, name) => {
    if (method !== "PATCH") return undefined;
    const there = bed.server.objects.get(`default/${name}`)!;
    bed.server.put(name, { metadata: there.metadata, status: { id: 1, pruned: true } });
    return Response.json(bed.server.objects.get(`default/${name}`) as KubernetesObject);
  };
  bed.want("a", { id: 2, unknown: true });
  await until("it was tried", () => bed.writes.includes("PATCH a"));
  for (let i = 0; i < 20; i++) {
    bed.objects.writer.changed("default/a");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const tries = bed.writes.filter((one) => one === "PATCH a").length;
  assert.ok(tries <= 2, `${tries} requests`);
});
