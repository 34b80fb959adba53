import assert from "node:assert/strict";
import { FakeClock } from "@weir/common/testing/fake_clock";
import { until } from "@weir/common/testing/until";
import { FakeApiServer, heldBody, statusAnswer } from "../testing/fake_api_server.ts";
import { ApiClient } from "./client.ts";
import type { KubernetesObject } from "./object.ts";
import { Reflector, type ReflectorOptions } from "./reflector.ts";
import { RESOURCES } from "./resource.ts";

interface Kept {
  data: string;
}

/** A reflector of config maps and what it says. */
class Fixture implements AsyncDisposable {
  readonly server = new FakeApiServer(RESOURCES.ConfigMap);
  readonly client = new ApiClient({ server: this.server.url, authorities: [] });
  readonly changes: string[] = [];
  completions = 0;
  readonly reflector: Reflector<Kept>;

  constructor(options: Partial<ReflectorOptions<Kept>> = {}) {
    this.reflector = new Reflector<Kept>(this.client, RESOURCES.ConfigMap, {
      prune: ({ data }: KubernetesObject) => ({ data: String((data as { a?: string } | undefined)?.a) }),
      onChange: (key, value) => this.changes.push(`${value === undefined ? "-" : "+"}${key}`),
      onComplete: () => this.completions++,
      backoff: { delayMsMin: 5, delayMsMax: 20 },
      pageObjects: 100,
      ...options,
    });
  }

  async watching(): Promise<void> {
    await until("it watches", () => this.reflector.state === "WATCHING" && this.server.watchers.size > 0, 5);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.reflector.stop();
    this.client.close();
    await this.server[Symbol.asyncDispose]();
  }
}

Deno.test("Reflector reads 10,000 objects in pages, then follows what changes", async () => {
  await using fixture = new Fixture();
  const { server, reflector, changes } = fixture;
  for (let i = 0; i < 10_000; i++) server.put(`cm-${i}`, { data: { a: "1" } });
  reflector.start();
  await fixture.watching();
  assert.equal(reflector.size, 10_000);
  assert.equal(server.lists, 100);
  changes.length = 0;
  server.put("cm-7", { data: { a: "2" } });
  server.put("cm-8", { data: { a: "1" } });
  server.delete("cm-9");
  server.put("new", { data: { a: "1" } });
  await until("the last change is there", () => reflector.has("default/new"), 5);
  // The second one changed nothing that is kept.
  assert.deepEqual(changes, ["+default/cm-7", "-default/cm-9", "+default/new"]);
  assert.equal(reflector.get("default/cm-7")?.data, "2");
  assert.equal(fixture.completions, 1);
});

Deno.test("Reflector takes nothing for gone before a list is complete", async () => {
  await using fixture = new Fixture();
  const { server, reflector, changes } = fixture;
  for (let i = 0; i < 250; i++) server.put(`cm-${String(i).padStart(3, "0")}`);
  reflector.start();
  await fixture.watching();
  changes.length = 0;
  let isBroken = true, broken = 0;
  server.intercept = (_, url) => {
    if (url.searchParams.get("watch")) return statusAnswer(410, "Expired");
    if (!isBroken || url.searchParams.get("continue") !== "200") return undefined;
    broken++;
    return broken === 1
      ? statusAnswer(410, "Expired")
      : broken === 2
      ? new Response('{"kind":"ConfigMapList","metadata":{"resourceVersion":"9')
      : statusAnswer(500, "InternalError");
  };
  server.objects.delete("default/cm-000");
  server.endWatches();
  await until("lists break", () => broken > 3, 5);
  assert.deepEqual(changes, []);
  assert.equal(reflector.size, 250);
  assert.equal(reflector.state, "AWAY");
  isBroken = false;
  await until("what is gone is gone", () => reflector.size === 249, 5);
  assert.deepEqual(changes, ["-default/cm-000"]);
});

Deno.test("Reflector goes on from where a stream was cut, within an event too", async () => {
  await using fixture = new Fixture();
  const { server, reflector } = fixture;
  server.put("a");
  const event = JSON.stringify({
    type: "ADDED",
    object: { metadata: { name: "b", namespace: "default", resourceVersion: "150" } },
  });
  let cuts = 0;
  server.version = 140;
  server.intercept = (_, url) => {
    if (!url.searchParams.get("watch") || ++cuts > 1) return undefined;
    server.version = 160;
    return new Response(event + "\n" + event.slice(0, 40));
  };
  reflector.start();
  await fixture.watching();
  assert.ok(reflector.has("default/b"));
  assert.equal(server.lists, 1);
  assert.match(server.requests.at(-1)!, /resourceVersion=150/);
});

Deno.test("Reflector lists anew when the API server no longer knows its version, and says nothing twice", async () => {
  await using fixture = new Fixture();
  const { server, reflector, changes } = fixture;
  for (const name of ["a", "b", "c"]) server.put(name);
  reflector.start();
  await fixture.watching();
  const [watcher] = server.watchers;
  server.objects.delete("default/b");
  server.version = 200;
  watcher.send("ERROR", {
    kind: "Status",
    code: 410,
    reason: "Expired",
    message: "too old resource version",
  });
  await until("it lists anew", () => reflector.lists === 2, 5);
  assert.deepEqual(changes, ["+default/a", "+default/b", "+default/c", "-default/b"]);
});

Deno.test("Reflector watches again as soon as a watch is taken that was refused, however silent it is", async () => {
  await using fixture = new Fixture();
  const { server, reflector } = fixture;
  reflector.start();
  await fixture.watching();
  let refused = 0;
  server.intercept = (_, url) => {
    // As an API server that begins: "storage is (re)initializing".
    if (!url.searchParams.get("watch") || refused++ > 1) return undefined;
    return statusAnswer(429, "TooManyRequests");
  };
  server.endWatches();
  await until("it is refused", () => refused > 0 && reflector.state !== "WATCHING", 5);
  await fixture.watching();
  assert.equal(server.lists, 1);
});

Deno.test("Reflector goes on from a bookmark", async () => {
  await using fixture = new Fixture();
  const { server, reflector } = fixture;
  server.put("a");
  reflector.start();
  await fixture.watching();
  server.version = 5000;
  server.bookmark();
  await until("the bookmark is there", () => reflector.resourceVersion === "5000", 5);
  server.endWatches();
  await fixture.watching();
  assert.match(server.requests.at(-1)!, /resourceVersion=5000/);
  assert.equal(reflector.lists, 1);
  assert.equal(reflector.events, 0);
});

Deno.test("Reflector lists anew when the API server's store was put back to an older copy", async () => {
  await using fixture = new Fixture();
  const { server, reflector, changes } = fixture;
  server.put("kept");
  const older = new Map(server.objects), version = server.version;
  server.put("lost");
  server.put("kept", { data: { a: "later" } });
  reflector.start();
  await fixture.watching();
  changes.length = 0;
  server.objects = older;
  server.version = version;
  server.endWatches();
  await until("it is as before", () => !reflector.has("default/lost"), 5);
  assert.equal(reflector.get("default/kept")?.data, "undefined");
  assert.deepEqual(changes, ["+default/kept", "-default/lost"]);
  assert.equal(reflector.lists, 2);
});

Deno.test("Reflector lists anew after an event that is older than what it has", async () => {
  await using fixture = new Fixture();
  const { server, reflector } = fixture;
  server.put("a");
  reflector.start();
  await fixture.watching();
  const [watcher] = server.watchers;
  watcher.send("ADDED", { metadata: { name: "b", namespace: "default", resourceVersion: "7" } });
  await until("it lists anew", () => reflector.lists === 2, 5);
  assert.equal(reflector.has("default/b"), false);
});

Deno.test("Reflector cuts a stream that is silent, or never ends an event, and keeps one with bookmarks", async () => {
  const clock = new FakeClock(), silentMsMax = 60_000;
  await using server = new FakeApiServer(RESOURCES.ConfigMap);
  const client = new ApiClient({ server: server.url, authorities: [] }, { clock });
  const reflector = new Reflector(client, RESOURCES.ConfigMap, { prune: () => ({}), silentMsMax });
  server.put("a");
  const ends: (() => void)[] = [];
  let watches = 0;
  server.intercept = (_, url) => {
    if (!url.searchParams.get("watch") || ++watches > 2) return undefined;
    const { body, end } = heldBody(...(watches === 1 ? [] : ['{"type":"ADDED",']));
    ends.push(end);
    return new Response(body);
  };
  reflector.start();
  // Each step is shorter than any deadline, so that only silence ends something.
  await until("the third stream is there", async () => {
    await clock.advance(5000);
    return server.watchers.size === 1;
  }, 20);
  assert.equal(reflector.lists, 1);
  for (let i = 0; i < 5; i++) {
    server.version++;
    server.bookmark();
    await until("the bookmark is there", () => reflector.resourceVersion === `${server.version}`, 5);
    await clock.advance(silentMsMax / 2);
  }
  assert.equal(watches, 3);
  await reflector.stop();
  client.close();
  ends.forEach((end) => end());
});

Deno.test("Reflector keeps what it has of a kind that is not there any more, and finds it when it comes", async () => {
  const waits: number[] = [];
  await using fixture = new Fixture();
  const { server, reflector } = fixture;
  server.put("a");
  server.intercept = () => new Response("404 page not found\n", { status: 404 });
  const clock = {
    ...fixture.client.clock,
    nowMs: () => Date.now(),
    monotonicMs: () => performance.now(),
    sleep: (ms: number, signal?: AbortSignal) => {
      waits.push(ms);
      return fixture.client.clock.sleep(Math.min(ms, 5), signal);
    },
  };
  const states: string[] = [];
  const other = new Reflector<Kept>(fixture.client, RESOURCES.ConfigMap, {
    prune: () => ({ data: "" }),
    onState: (state) => states.push(state),
    clock,
  }).start();
  await other.waitSettled();
  assert.equal(other.state, "ABSENT");
  assert.equal(other.synced, false);
  server.intercept = undefined;
  await until("it is there", () => other.has("default/a"), 5);
  server.intercept = () => new Response("404 page not found\n", { status: 404 });
  server.endWatches();
  await until("it is away again", () => other.state === "ABSENT", 5);
  assert.ok(other.has("default/a"));
  assert.deepEqual(states, ["ABSENT", "WATCHING", "ABSENT"]);
  assert.ok(waits.some((ms) => ms >= 7500), "it does not ask all the time");
  await other.stop();
  void reflector;
});

Deno.test("Reflector keeps of an object that cannot be read what it had, and says so", async () => {
  await using fixture = new Fixture({
    prune: ({ data }) => {
      const { a } = data as { a: string };
      if (a === "bad") throw new Error("it is bad");
      return a === "skip" ? undefined : { data: a };
    },
  });
  const { server, reflector } = fixture;
  server.put("a", { data: { a: "1" } });
  server.put("b", { data: { a: "skip" } });
  reflector.start();
  await fixture.watching();
  assert.equal(reflector.size, 1);
  server.put("a", { data: { a: "bad" } });
  await until("the fault is there", () => reflector.faults.size === 1, 5);
  assert.equal(reflector.faults.get("default/a")?.message, "it is bad");
  assert.equal(reflector.get("default/a")?.data, "1");
  server.put("a", { data: { a: "skip" } });
  await until("it does not count any more", () => reflector.size === 0, 5);
  assert.equal(reflector.faults.size, 0);
});

Deno.test("Reflector waits as long as the API server asks it to", async () => {
  const waits: number[] = [];
  await using server = new FakeApiServer(RESOURCES.ConfigMap);
  const client = new ApiClient({ server: server.url, authorities: [] });
  let asked = 0;
  server.intercept = () =>
    ++asked === 1 ? new Response("slow down", { status: 429, headers: { "retry-after": "7" } }) : undefined;
  const clock = {
    nowMs: () => Date.now(),
    monotonicMs: () => performance.now(),
    sleep: (ms: number, signal?: AbortSignal) => {
      waits.push(ms);
      return client.clock.sleep(ms === 7000 ? 1 : ms, signal);
    },
  };
  const reflector = new Reflector(client, RESOURCES.ConfigMap, { prune: () => ({}), clock }).start();
  await reflector.waitSettled();
  assert.ok(waits.includes(7000));
  await reflector.stop();
  client.close();
});
