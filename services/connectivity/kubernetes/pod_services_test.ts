import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import type { PlaceProgram } from "../target.ts";
import { PodServices } from "./pod_services.ts";
import type { RelayCancel, RelayRequest } from "./service_relay.ts";

type Say = (...parts: Record<string, unknown>[]) => void;

/** A program that answers as told. @param answer false: it ends */
function program(
  answer: (request: RelayRequest, say: Say) => false | void,
  cancelled: number[] = [],
): PlaceProgram {
  let controller!: ReadableStreamDefaultController<Uint8Array<ArrayBuffer>>;
  const output = new ReadableStream<Uint8Array<ArrayBuffer>>({ start: (one) => void (controller = one) });
  return {
    output,
    stderr: "",
    stop: () => Promise.resolve(),
    write(text) {
      const asked = JSON.parse(text) as RelayRequest | RelayCancel, { id } = asked;
      if ("isCancelled" in asked) {
        cancelled.push(id);
        return Promise.resolve();
      }
      const say: Say = (...parts) => {
        const lines = parts.map((part) => JSON.stringify({ id, ...part }) + "\n");
        controller.enqueue(new TextEncoder().encode(lines.join("")));
      };
      if (answer(asked, say) === false) controller.close();
      return Promise.resolve();
    },
  };
}
const head = (status = 200, headers: Record<string, string> = {}) => ({ status, headers });
const piece = (text: string) => ({ piece: btoa(text) });
const END = { error: "" };

Deno.test("PodServices asks by one program, and begins another after it was lost", async () => {
  let begun = 0;
  const seen: RelayRequest[] = [];
  const services = new PodServices(
    () => {
      begun++;
      return program((request, say) => {
        seen.push(request);
        if (request.path === "/end") return false;
        if (request.path === "/bad") return say({ error: "no socket" });
        if (request.path === "/empty") return say(head(204), END);
        say(head(201, { "x-a": "1" }), piece("h"), piece("i"), END);
      });
    },
    "/run/weir/host",
    "ns/pod",
  );
  const ask = (path: string, init?: RequestInit) =>
    services.fetch("datapath", new Request(`http://localhost${path}`, init));
  const answer = await ask("/v1/x?a=b", { method: "POST", body: "body" });
  deepEqual([answer.status, answer.headers.get("x-a"), await answer.text()], [201, "1", "hi"]);
  const { socket, method, path, body } = seen[0];
  deepEqual([socket, method, path, atob(body)], [
    "/run/weir/host/datapath.sock",
    "POST",
    "/v1/x?a=b",
    "body",
  ]);
  await rejects(() => ask("/bad"), {
    code: "POD_UNREACHABLE",
    message: /datapath in pod ns\/pod: no socket/,
  });
  equal((await ask("/empty")).status, 204);
  equal(begun, 1);
  await rejects(() => ask("/end"), { code: "POD_UNREACHABLE", message: /has ended/ });
  equal((await ask("/v1/x")).status, 201);
  equal(begun, 2);
  await services.stop();
  await rejects(() => ask("/v1/x"), { code: "POD_UNREACHABLE" });
});

Deno.test("PodServices gives a stream as it comes, and ends it there when nobody reads on", async () => {
  const cancelled: number[] = [];
  let say!: Say;
  const services = new PodServices(
    () => program((_request, one) => void (say = one), cancelled),
    "/run/weir/host",
    "ns/pod",
    100,
  );
  const follow = async (signal?: AbortSignal) => {
    const asking = services.fetch("datapath", new Request("http://localhost/", { signal }));
    await until("the request to come", () => say !== undefined);
    say(head(), piece("one"));
    return (await asking).body!.getReader();
  };
  const textOf = ({ value }: ReadableStreamReadResult<Uint8Array>) => new TextDecoder().decode(value);
  const reader = await follow();
  equal(textOf(await reader.read()), "one");
  say(piece("two"));
  equal(textOf(await reader.read()), "two");
  await reader.cancel();
  deepEqual(cancelled, [1]);

  const stop = new AbortController(), aborted = await follow(stop.signal);
  await aborted.read();
  stop.abort(new Error("enough"));
  await rejects(() => aborted.read(), /enough/);
  deepEqual(cancelled, [1, 2]);

  const slow = await follow();
  say(piece("x".repeat(98)));
  await until("it to be cut", () => cancelled.length === 3);
  await rejects(async () => {
    while (!(await slow.read()).done);
  }, { code: "POD_UNREACHABLE", message: /more than 100 bytes/ });
  // What comes of it later is nobody's.
  say(piece("late"), END);
  ok((await follow()) !== undefined);
  await services.stop();
});

Deno.test("PodServices waits no longer than who asks, and not for a program that cannot begin", async () => {
  const cancelled: number[] = [];
  const services = new PodServices(() => program(() => {}, cancelled), "/run/weir/host", "ns/pod");
  const stop = new AbortController();
  const waits = services.fetch("datapath", new Request("http://localhost/", { signal: stop.signal }));
  setTimeout(() => stop.abort(new Error("late")), 10);
  await rejects(waits, /late/);
  deepEqual(cancelled, [1]);
  await services.stop();
  const broken: PlaceProgram = {
    output: ReadableStream.from((async function* () {
      yield* [];
      await Promise.resolve();
      throw new Error("forbidden");
    })()),
    stderr: "",
    write: () => Promise.reject(new Error("forbidden")),
    stop: () => Promise.resolve(),
  };
  const other = new PodServices(() => broken, "/run/weir/host", "ns/pod");
  await rejects(() => other.fetch("datapath", new Request("http://localhost/")), /forbidden/);
  await other.stop();
});

Deno.test("the program in the pod answers in pieces, and stops what is cancelled", async () => {
  const directory = await Deno.makeTempDir();
  const path = `${directory}/x.sock`, gone = Promise.withResolvers<void>();
  const server = Deno.serve({ path, onListen: () => {} }, (request) => {
    if (!request.url.endsWith("/stream")) return new Response("whole", { status: 202 });
    const body = new ReadableStream({
      start: (controller) => controller.enqueue(new TextEncoder().encode("first")),
      cancel: () => gone.resolve(),
    });
    return new Response(body);
  });
  const source = await Deno.readTextFile(new URL("./service_relay.ts", import.meta.url));
  const relay = `${directory}/relay.ts`;
  await Deno.writeTextFile(relay, source.replace('["/run/weir/"]', JSON.stringify([`${directory}/`])));
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-config", "--no-lock", "--no-check", "-A", relay],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  const services = new PodServices(
    () => ({
      output: child.stdout,
      stderr: "",
      write: (text) => writer.write(new TextEncoder().encode(text)),
      stop: () => writer.close().catch(() => {}),
    }),
    directory,
    "ns/pod",
  );
  try {
    const whole = await services.fetch("x", new Request("http://localhost/"));
    deepEqual([whole.status, await whole.text()], [202, "whole"]);
    const reader = (await services.fetch("x", new Request("http://localhost/stream"))).body!.getReader();
    equal(new TextDecoder().decode((await reader.read()).value), "first");
    await reader.cancel();
    await gone.promise;
    await rejects(() => services.fetch("away", new Request("http://localhost/")), {
      code: "POD_UNREACHABLE",
    });
  } finally {
    await services.stop();
    equal((await child.status).code, 0);
    await server.shutdown();
    await Deno.remove(directory, { recursive: true });
  }
});
