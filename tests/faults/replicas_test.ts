/**
 * Three machines of the control plane on one PostgreSQL. One is killed, then another one hangs: the last goes on alone. Then
 * the database is replaced by an older copy under all of them. A stream between machines goes on all the time.
 * @module
 */
import assert from "node:assert/strict";
import { postgresMissing, TestPostgres } from "@weir/common/testing/postgres";
import { Machine, MachineNetwork } from "../e2e/machine.ts";
import { canRun } from "../e2e/weir.ts";
import { until } from "@weir/common/testing/until";
import { signal } from "./faulty_lab.ts";

const root = new URL("../../", import.meta.url).pathname;
const missing = postgresMissing();
if (missing !== undefined) console.log(`SKIP tests/faults/replicas_test.ts: ${missing}`);

/** Lets these apps, and nobody else, speak to the web. */
const policy = (...apps: string[]) =>
  `apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: { name: web }
spec:
  endpointSelector: { matchLabels: { app: web } }
  ingress: [{ fromEndpoints: [${apps.map((app) => `{ matchLabels: { app: ${app} } }`).join(", ")}] }]
`;

/** Numbers from the pod "far" of one machine to the pod "web" of another one, and who may connect. */
class Traffic {
  address = "";
  readonly #folder: string;

  constructor(readonly web: Machine, readonly far: Machine, folder: string) {
    this.#folder = folder;
  }

  /** @param address of the pod web */
  async start(address: string): Promise<void> {
    this.address = address;
    const numbered = `${root}tests/e2e/testdata/numbered.py`;
    const start = (machine: Machine, pod: string, role: string, ...words: string[]) =>
      machine.background(
        ...[
          "ip",
          "netns",
          "exec",
          pod,
          "env",
          `STATE=${this.#folder}/${role}.json`,
          "python3",
          numbered,
          ...words,
        ],
      );
    start(this.web, "web", "serving", "serve", "80");
    await until("the server listens", () => this.#has("serving"));
    await until("the client reaches it", () => this.reaches(this.far, "far"));
    start(this.far, "far", "sending", "send", address, "80");
    await until("the client sends", () => this.#has("sending"));
  }

  async #has(role: string): Promise<boolean> {
    return await Deno.stat(`${this.#folder}/${role}.json`).then(() => true, () => false);
  }

  async #state(role: string): Promise<Record<string, number> & { error?: string }> {
    return JSON.parse(await Deno.readTextFile(`${this.#folder}/${role}.json`));
  }

  /** The stream goes on by fifty numbers, none was lost, and who may not connect cannot. */
  async holds(when: string, may: string[], mayNot: string[]): Promise<void> {
    const sent = async () => {
      const { sent, error } = await this.#state("sending");
      assert.equal(error, "", `${when}: the TCP stream goes on`);
      return sent;
    };
    const before = await sent();
    await until(`${when}: the stream goes on`, async () => await sent() >= before + 50);
    const count = await sent();
    await until(
      `${when}: every datagram has come`,
      async () => (await this.#state("serving")).newest >= count,
    );
    const { datagrams, newest } = await this.#state("serving");
    assert.equal(newest - datagrams, 0, `${when}: datagrams of ${newest} that were lost`);
    for (const pod of may) assert.ok(await this.reaches(this.web, pod), `${when}: ${pod} may`);
    for (const pod of mayNot) {
      assert.equal(await this.reaches(this.web, pod, 2), false, `${when}: ${pod} may not`);
    }
  }

  async reaches(machine: Machine, pod: string, patienceS = 20): Promise<boolean> {
    const script = `import socket; socket.create_connection((${
      JSON.stringify(this.address)
    }, 80), timeout=${patienceS})`;
    return (await machine.run(["ip", "netns", "exec", pod, "python3", "-c", script])).code === 0;
  }
}

async function addPod(machine: Machine, name: string): Promise<void> {
  await machine.ok(["ip", "netns", "add", name]);
  await machine.weir(["endpoint", "add", name, "--netns", name, "--label", `app=${name}`, "--wait"]);
}

interface EndpointRow {
  name: string;
  status: { identity: number; ipv4: string };
}

async function endpoints(machine: Machine): Promise<EndpointRow[]> {
  return JSON.parse(await machine.weir(["endpoint", "list", "-o", "json"]));
}

async function isWell(machine: Machine): Promise<void> {
  await machine.weir(["status", "--wait", "--timeout", "300"]);
}

Deno.test({
  name:
    "three machines of the control plane on one PostgreSQL: one dies, one hangs, the database becomes an older copy",
  ignore: !canRun || missing !== undefined,
  async fn(t) {
    // Each step stands on the one before.
    const step = async (name: string, run: () => Promise<void>) => assert.ok(await t.step(name, run), name);
    const [a, b, c] = [1, 2, 3].map((n) => new Machine(`server-${"abc"[n - 1]}`, `192.0.2.${n}`));
    const folder = await Deno.makeTempDir();
    const postgres = await TestPostgres.start();
    try {
      await using _network = await MachineNetwork.up(a, b, c);
      const traffic = new Traffic(c, a, folder);
      let older = "", stopped: number[] = [];

      await step("init, and two that join", async () => {
        const url = await postgres.createDatabase("plane");
        await a.weir(["cluster", "init", "--listen", a.address, "--database-url", url]);
        await a.startAgent();
        for (const machine of [b, c]) {
          const token = (await a.weir(["cluster", "token", "--role", "control-plane"])).trim();
          const plane = ["--control-plane", "--listen", machine.address, "--database-url", url];
          assert.match(await machine.refused("join", token), /say --control-plane/);
          await machine.weir(["join", token, ...plane]);
          await machine.startAgent();
        }
        const listens = JSON.parse(await c.weir(["cluster", "nodes", "-o", "json"]))
          .map(({ member }: { member: { addresses: string[] } }) => member.addresses.join());
        assert.deepEqual(listens, [1, 2, 3].map((n) => `192.0.2.${n}:7440`));
        for (const pod of ["web", "client", "stranger"]) await addPod(c, pod);
        await addPod(a, "far");
        await a.weir(["policy", "apply", "-f", "-"], policy("client", "far"));
        await traffic.start((await endpoints(c)).find(({ name }) => name === "web")!.status.ipv4);
        await traffic.holds("at first", ["client"], ["stranger"]);
        older = await postgres.dump("plane");
      });

      await step("one dies and one hangs: the last goes on alone", async () => {
        for (const pid of await a.processes()) signal(pid, "SIGKILL");
        await a.agentEnds();
        stopped = await b.processes();
        for (const pid of stopped) signal(pid, "SIGSTOP");
        const begun = performance.now();
        await addPod(c, "late");
        const added = performance.now();
        // The machines that are away are named, and those that are there have it.
        await c.weir(["policy", "apply", "-f", "-", "--no-wait"], policy("client", "far", "late"));
        await until("the new policy lets who is late in", () => traffic.reaches(c, "late", 2));
        const seconds = [added - begun, performance.now() - added].map((ms) => (ms / 1000).toFixed(1));
        console.log(`    a new endpoint took ${seconds[0]} s, a new policy ${seconds[1]} s`);
        await traffic.holds("with one machine", ["client", "late"], ["stranger"]);
      });

      await step("they come back", async () => {
        for (const pid of stopped) signal(pid, "SIGCONT");
        await a.startAgent();
        for (const machine of [a, b, c]) await isWell(machine);
        await traffic.holds("with all three", ["client", "late"], ["stranger"]);
      });

      await step("the database becomes an older copy while all run", async () => {
        const before = await endpoints(c);
        await postgres.restore("plane", older);
        await until(
          "the older database is named",
          async () =>
            /older than what is in force/.test((await c.run([`${root}scripts/weir`, "policy", "list"])).err),
        );
        await traffic.holds("with the older database", ["client", "late"], ["stranger"]);
        await a.weir(["policy", "apply", "-f", "-", "--no-wait"], policy("client", "far", "late"));
        await c.weir(["policy", "accept-database"]);
        for (const machine of [a, b, c]) await isWell(machine);
        await traffic.holds("after it was accepted", ["client", "late"], ["stranger"]);
        assert.deepEqual(
          (await endpoints(c)).map(({ name, status }) => [name, status.identity]),
          before.map(({ name, status }) => [name, status.identity]),
          "running endpoints keep their numbers",
        );
      });
    } finally {
      await postgres.close();
      await Deno.remove(folder, { recursive: true });
    }
  },
});
