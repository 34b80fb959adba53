import assert from "node:assert/strict";
import { Reflector, WeirClient } from "@weir/client";
import {
  ApiServer,
  type Change,
  distillEntries,
  isKnownPage,
  LabelSet,
  MetricsRegistry,
  readFrames,
  type TableObserver,
  WatchHub,
} from "@weir/common";
import { WatchEvent } from "@weir/proto/common";
import { MapState } from "@weir/proto/policy";
import { FakeClock } from "../common/testing/fake_clock.ts";
import { readManifests } from "./manifest.ts";
import type { NamedPort } from "./named_ports.ts";
import { mapStateParts, SHARED_MAP_STATE } from "./policy_group.ts";
import { PolicyRepository } from "./policy_repository.ts";
import { Publisher } from "./publisher.ts";

const EVERYONE =
  "{endpointSelector: {}, ingress: [{fromEndpoints: [{}], toPorts: [{ports: [{port: '80', protocol: TCP}]}]}]}";

function labels(app: string, namespace = "default"): LabelSet {
  return LabelSet.parse([
    `k8s:app=${app}`,
    `k8s:io.kubernetes.pod.namespace=${namespace}`,
    "k8s:io.cilium.k8s.policy.cluster=default",
  ]);
}

function put(repository: PolicyRepository, name: string, spec: string): void {
  const kind = "CiliumClusterwideNetworkPolicy";
  const { policies, faults } = readManifests(
    `{apiVersion: cilium.io/v2, kind: ${kind}, metadata: {name: ${name}}, spec: ${spec}}`,
  );
  assert.deepEqual(faults, []);
  for (const policy of policies) repository.upsertPolicy(policy);
}

function setUp(identities = 0) {
  const repository = new PolicyRepository();
  const publisher = new Publisher(repository, new MetricsRegistry(), new FakeClock());
  for (let i = 0; i < identities; i++) repository.upsertIdentity(1000 + i, labels(`a${i % 50}`));
  publisher.publish();
  return { repository, publisher, table: publisher.mapStates };
}

/** What a reader has of a map state: decoded from the bytes that it is sent, entries in canonical order. */
function read(state: MapState | undefined): MapState | undefined {
  if (state === undefined) return undefined;
  const message = MapState.decode(SHARED_MAP_STATE.encode(state));
  return { ...message, entries: distillEntries(message.entries) };
}

Deno.test("one identity more changes no map state one by one, and one page of what all of them share", () => {
  const { repository, publisher, table } = setUp(2000);
  put(repository, "everyone", EVERYONE);
  publisher.publish();
  let one = 0, many = 0;
  const observer: TableObserver<MapState> = {
    changed: ({ name }) => void (isKnownPage(name) || one++),
    manyChanged: () => void many++,
    reset: () => {},
    announced: () => {},
    behind: false,
  };
  table.observe(observer);
  const pages = () => repository.group(1000)!.shown().layer.runs().map(({ page }) => page);
  const before = new Set(pages()), revision = table.revision, held = table.get("1000")!;
  const was = read(held)!;
  repository.upsertIdentity(3000, labels("new"));
  publisher.publish();
  assert.deepEqual([one, many], [0, 1]);
  assert.ok(before.size >= 8, `${before.size} pages`);
  assert.equal(pages().filter((page) => !before.has(page)).length, 1);
  const changed = new Set(table.changesSince(revision, Infinity)!.map(({ name }) => name));
  assert.ok(Array.from({ length: 2001 }, (_, i) => `${1000 + i}`).every((name) => changed.has(name)));
  const now = read(table.get("1000"))!;
  assert.equal(now.entries.length, was.entries.length + 1);
  assert.deepEqual(read(held), was, "a map state that was given away stays as it was");
});

Deno.test("watchers by name get their own map states and nothing else, whether few have changed or all", async () => {
  const { repository, publisher, table } = setUp(1000);
  const hub = new WatchHub({ table, message: SHARED_MAP_STATE, clock: new FakeClock() });
  const open = (...names: string[]) => {
    const events: string[] = [];
    void (async () => {
      const stream = hub.openNames({ names: [], newNames: names, encoding: "protobuf" });
      for await (const bytes of readFrames(stream, "protobuf")) {
        const { type, name, object } = WatchEvent.decode(bytes);
        events.push(type === "PUT" ? `${name}:${MapState.decode(object).entries.length}` : `${type} ${name}`);
      }
    })();
    return events;
  };
  const take = async (events: string[]) => {
    await new Promise((resolve) => setTimeout(resolve, 5));
    return events.splice(0);
  };
  const both = open("1000", "1001"), other = open("1002"), absent = open("7");
  assert.deepEqual([await take(both), await take(other), await take(absent)], [
    ["1000:0", "1001:0", "SYNCED "],
    ["1002:0", "SYNCED "],
    ["SYNCED "],
  ]);
  put(
    repository,
    "few",
    "{endpointSelector: {matchLabels: {app: a0}}, ingress: [{fromEndpoints: [{matchLabels: {app: a1}}]}]}",
  );
  publisher.publish();
  assert.deepEqual([await take(both), await take(other), await take(absent)], [["1000:20"], [], []]);
  put(repository, "everyone", EVERYONE);
  publisher.publish();
  assert.deepEqual([await take(other), await take(absent)], [["1002:1000"], []]);
  assert.deepEqual((await take(both)).sort(), ["1000:1020", "1001:1000"], "two rules mean twenty of them");
  repository.removeIdentity(1001);
  publisher.publish();
  assert.deepEqual(await take(both), ["1000:1018", "DELETED 1001", "SYNCED "]);
});

Deno.test("a page of known identities comes after every map state that was made with them, by its name alone", async () => {
  const { repository, publisher, table } = setUp(300);
  put(repository, "everyone", EVERYONE);
  publisher.publish();
  const hub = new WatchHub({ table, message: SHARED_MAP_STATE, clock: new FakeClock() });
  const follow = (position: { revision: number } | undefined, names: string[], newNames: string[]) => {
    const events: string[] = [];
    void (async () => {
      const stream = hub.openNames({ names, newNames, position, encoding: "protobuf" });
      for await (const bytes of readFrames(stream, "protobuf")) {
        const { type, name, object } = WatchEvent.decode(bytes);
        const { entries, knownIdentities } = MapState.decode(object ?? new Uint8Array());
        events.push(type !== "PUT" ? type : `${name} ${entries.length} ${knownIdentities.length}`);
      }
    })();
    return async () => {
      await new Promise((resolve) => setTimeout(resolve, 5));
      return events.splice(0);
    };
  };
  const first = follow(undefined, [], ["1000", "known-3", "known-9", "known-0"]);
  const begun = await first();
  assert.deepEqual(begun.filter((event) => !event.startsWith("known-0")), [
    "1000 300 0",
    "known-3 0 24",
    "SYNCED",
  ]);
  const { revision } = table;
  repository.upsertIdentity(2304, labels("new"));
  publisher.publish();
  assert.deepEqual(await first(), ["1000 301 0", "known-9 0 1", "SYNCED"]);
  assert.deepEqual(await follow({ revision }, ["1000", "known-9"], [])(), [
    "1000 301 0",
    "known-9 0 1",
    "SYNCED",
  ]);
  repository.removeIdentity(2304);
  publisher.publish();
  assert.deepEqual(await first(), ["1000 300 0", "known-9 0 0", "SYNCED"]);
  // Nothing else changes: no page is told.
  put(repository, "everyone", `{endpointSelector: {}, ingress: [{fromEntities: [all]}]}`);
  publisher.publish();
  assert.deepEqual((await first()).filter((event) => event.startsWith("known")), []);
  assert.equal(table.list().some(({ knownIdentities }) => knownIdentities.length > 0), false, "no map state");
  assert.equal(
    table.changesSince(table.oldestRevision, Infinity)!.some(({ name }) => isKnownPage(name)),
    false,
  );
});

Deno.test("who would get too many entries keeps what it had and says why, until there are fewer", () => {
  const { repository, publisher, table } = setUp(1000);
  put(repository, "everyone", EVERYONE);
  publisher.publish();
  const before = read(table.get("1000"))!;
  // Each port range is many prefixes: more than 262,144 entries for everyone.
  const ranges = Array.from(
    { length: 10 },
    (_, i) => `{port: '${i * 1024 + 1}', endPort: ${i * 1024 + 1023}}`,
  );
  put(
    repository,
    "huge",
    `{endpointSelector: {}, ingress: [{fromEndpoints: [{}], toPorts: [{ports: [${ranges}]}]}]}`,
  );
  publisher.publish();
  const kept = read(table.get("1000"))!;
  assert.match(kept.error, /^Cannot resolve policy of identity 1000: \d+ entries, want at most 262144$/);
  assert.deepEqual({ ...kept, error: "" }, before);
  repository.upsertIdentity(9000, labels("late"));
  publisher.publish();
  const late = read(table.get("9000"))!;
  assert.deepEqual([late.enforceIngress, late.enforceEgress, late.entries], [true, true, []]);
  assert.match(late.error, /9000/);
  assert.deepEqual(read(table.get("1000"))!.entries, before.entries);
  repository.removePolicy("ccnp:huge");
  publisher.publish();
  assert.deepEqual([table.get("1000")!.error, table.get("9000")!.error], ["", ""]);
  assert.equal(read(table.get("9000"))!.entries.length, before.entries.length + 1);
});

/** The table as the engine serves it, and the bytes that its clients have received. */
function serve(table: Publisher["mapStates"]) {
  const api = new ApiServer({ name: "policy-engine" });
  api.collection<MapState>({ name: "mapstates", message: SHARED_MAP_STATE, table, partsOf: mapStateParts });
  const received = { bytes: 0 };
  const client = new WeirClient({
    handler: async (request) => {
      const response = await api.fetch(request);
      const counted = new TransformStream<Uint8Array, Uint8Array>({
        transform(chunk, controller) {
          received.bytes += chunk.length;
          controller.enqueue(chunk);
        },
      });
      return new Response(response.body!.pipeThrough(counted), response);
    },
  });
  return { states: client.collection("mapstates", MapState), received };
}

async function until(what: () => boolean): Promise<void> {
  while (!what()) await new Promise((resolve) => setTimeout(resolve, 2));
}

Deno.test("a node receives what its map states have in common once, and of a change what has changed", async () => {
  const { repository, publisher, table } = setUp(2000);
  put(repository, "everyone", EVERYONE);
  publisher.publish();
  const { states, received } = serve(table);
  const names = Array.from({ length: 20 }, (_, i) => `${1000 + i}`);
  const reflector = new Reflector(states, { names }).start();
  await reflector.waitSynced();
  const first = received.bytes, whole = SHARED_MAP_STATE.encode(table.get("1000")!).length;
  assert.ok(first < whole * 2, `${first} bytes for 20 map states of ${whole} each`);
  const inSync = () => {
    table.announce();
    return until(() => reflector.revision === table.revision);
  };
  repository.upsertIdentity(5000, labels("new"));
  publisher.publish();
  await inSync();
  assert.ok(received.bytes - first < whole / 2, `${received.bytes - first} bytes for one identity more`);
  for (const name of names) assert.deepEqual(read(reflector.get(name)), read(table.get(name)));
  const [one, other] = [reflector.get("1000")!.entries, reflector.get("1001")!.entries];
  const isShared = one.filter((entry) => other.includes(entry)).length;
  assert.ok(isShared > 1900, `${isShared} of ${one.length} entries are one object`);
  await reflector.stop();
});

/** A reader that takes a few changes at a time. */
class Follower {
  readonly copy = new Map<string, MapState>();
  #revision: number;

  constructor(readonly publisher: Publisher, readonly names?: string[]) {
    this.#revision = publisher.mapStates.oldestRevision;
  }

  /** Takes up to `rounds` times a few changes. */
  follow(rounds: number, max: number): void {
    const table = this.publisher.mapStates;
    for (let round = 0; round < rounds; round++) {
      const changes: Change<MapState>[] = this.names
        ? table.changesByKeys(this.#revision, "name", this.names, max)!
        : table.changesSince(this.#revision, max)!;
      for (const { name, revision, value } of changes) {
        assert.ok(revision > this.#revision, "no two changes have one revision");
        this.#revision = revision;
        if (value) this.copy.set(name, read(value)!);
        else this.copy.delete(name);
      }
      if (changes.length < max) return void (this.#revision = table.revision);
    }
  }
}

function randomOf(seed: number): (below: number) => number {
  return (below) => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor(seed / 2 ** 32 * below);
  };
}

const SEED = Number(Deno.env.get("WEIR_SEED") ?? 1);

for (const seed of [SEED, SEED + 1, SEED + 2]) {
  Deno.test(`readers have what a new repository would say, and nothing before it is published (WEIR_SEED=${seed})`, async () => {
    const random = randomOf(seed);
    const { repository, publisher, table } = setUp();
    const identities = new Map<number, LabelSet>(), policies = new Map<string, string>();
    const ports = new Map<string, { number: number; named: NamedPort[] | undefined }>();
    const followers = [new Follower(publisher), new Follower(publisher, ["300", "301", "310", "600"])];
    const reflector = new Reflector(serve(table).states, { names: followers[1].names }).start();
    let published = new Map<string, MapState | undefined>();
    const change = () => {
      const number = 300 + random(400), name = `p${random(8)}`;
      switch (random(9)) {
        case 0:
        case 1:
        case 2: {
          const set = labels(`a${random(6)}`, `n${random(3)}`);
          identities.set(number, set);
          return repository.upsertIdentity(number, set);
        }
        case 3: {
          const [some] = [...identities.keys()].slice(random(identities.size || 1));
          identities.delete(some);
          return repository.removeIdentity(some ?? number);
        }
        case 4:
          policies.delete(name);
          return void repository.removePolicy(`ccnp:${name}`);
        case 5: {
          const port = 8080 + random(2), endpoint = `10.0.0.${random(50)}/32`;
          const named = random(3) === 0 ? undefined : [{ name: "http", port, protocol: "TCP" }];
          ports.set(endpoint, { number, named });
          return void repository.setNamedPorts(endpoint, number, named);
        }
        default: {
          const subject = [
            "{}",
            "{matchLabels: {io.kubernetes.pod.namespace: n1}}",
            `{matchLabels: {app: a1}}`,
          ];
          const peer = ["{}", `{matchLabels: {app: a${random(6)}}}`][random(2)];
          const isNamed = random(12) === 0, port = isNamed ? "http" : 80 + random(3);
          const toPorts = `toPorts: [{ports: [{port: '${port}', protocol: TCP}]}]`;
          const way = isNamed ? "egress" : random(3) === 0 ? "ingressDeny" : "ingress";
          const rules = `[{${isNamed ? "to" : "from"}Endpoints: [${peer}], ${toPorts}}]`;
          const spec = `{endpointSelector: ${subject[random(3)]}, ${way}: ${rules}}`;
          policies.set(name, spec);
          return put(repository, name, spec);
        }
      }
    };
    for (let i = 0; i < 150; i++) change();
    for (let step = 0; step < 25; step++) {
      for (let i = random(6); i > 0; i--) change();
      for (const [name, state] of published) {
        if (random(20) === 0) assert.deepEqual(read(table.get(name)), state, "half a change is shown");
      }
      publisher.publish();
      published = new Map([300, 301, 310, 555, 600].map((n) => [`${n}`, read(table.get(`${n}`))]));
      for (const follower of followers) follower.follow(1 + random(3), 1 + random(100));
      if (random(3) === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    }
    table.announce();
    await until(() => reflector.revision === table.revision);
    await reflector.stop();
    for (const follower of followers) follower.follow(Infinity, 50);
    const fresh = new PolicyRepository();
    for (const [number, set] of identities) fresh.upsertIdentity(number, set);
    for (const [name, spec] of policies) put(fresh, name, spec);
    for (const [endpoint, { number, named }] of ports) fresh.setNamedPorts(endpoint, number, named);
    const comparable = (state: MapState | undefined) => ({ ...read(state)!, policyRevision: 0 });
    for (const subject of fresh.subjects()) {
      const name = `${subject}`, said = comparable(fresh.mapState(subject));
      assert.deepEqual(comparable(table.get(name)), said);
      for (const { copy, names } of followers) {
        if (names === undefined || names.includes(name)) assert.deepEqual(comparable(copy.get(name)), said);
      }
      if (reflector.knows(name)) assert.deepEqual(comparable(reflector.get(name)), said);
    }
    assert.equal(followers[0].copy.size, [...fresh.subjects()].length);
    assert.equal(table.size, followers[0].copy.size);
  });
}
