/**
 * The L7 proxy of a node, three processes, under load of connections that are kept: one is killed, all stand still, rules change, all are started anew, the
 * control plane is away. Every answer is that of the newest rules, and flows without L7 rules go on as if nothing had been.
 * @module
 */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import { at, program } from "../e2e/service.ts";
import { PodStream } from "../e2e/stream.ts";
import { canRun, Lab, run } from "../e2e/weir.ts";
import { addressOf, Attempts, pidOf, pod, processOf, signal } from "./faulty_lab.ts";

const lab = new Lab(`l7f${Deno.pid}`);
const PORT = 8080, NODE = "node-1", WORKERS = ["l7-proxy", "l7-proxy-2", "l7-proxy-3"], CONNECTIONS = 24;
const CAST = [
  pod("web", 1, `python3, "${program("http_server.py")}", "${PORT}"`),
  pod("server-1", 1, `python3, "${program("server.py")}", "80/TCP"`),
  pod("client-1", 1),
].join("---\n");
/** Lets clients ask web for one path alone. */
const allows = (path: string) =>
  "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: { name: web, namespace: default }\n" +
  "spec: { endpointSelector: { matchLabels: { app: web } }, ingress: [{ fromEndpoints: [{ matchLabels: { app: client } }], " +
  `toPorts: [{ ports: [{ port: "${PORT}", protocol: TCP }], rules: { http: [{ path: '${path}' }] } }] }] }\n`;

/** What http_load.py has seen. */
interface Seen {
  phase: string;
  seen: Record<string, number>;
  ended: number[];
  refused: number;
  failed: number;
  open: number;
  wrong: string[];
}

/** Connections from client-1 to web that are kept and asked on. */
class Load implements AsyncDisposable {
  now: Seen = { phase: "", seen: {}, ended: [], refused: 0, failed: 0, open: 0, wrong: [] };
  #phase = 0;
  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reading: Promise<void>;

  constructor(address: string) {
    const weir = new URL("../../scripts/weir", import.meta.url).pathname;
    const words = ["python3", program("http_load.py"), address, `${PORT}`, `${CONNECTIONS}`];
    this.#child = new Deno.Command(weir, {
      args: ["--lab", lab.name, "lab", "exec", "default/client-1", "--", ...words],
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    this.#writer = this.#child.stdin.getWriter();
    this.#reading = this.#read();
  }

  async #read(): Promise<void> {
    let text = "";
    for await (const chunk of this.#child.stdout.pipeThrough(new TextDecoderStream())) {
      const lines = (text + chunk).split("\n");
      text = lines.pop()!;
      if (lines.length > 0) this.now = JSON.parse(lines.at(-1)!);
    }
  }

  /** From here on requests are counted by themselves. @returns what was answered to them so far, by path and status */
  async phase(): Promise<() => Record<string, number>> {
    const phase = `${++this.#phase}`;
    await this.#writer.write(new TextEncoder().encode(`${phase}\n`));
    await until("the load has heard", () => this.now.phase === phase, 50);
    return () => {
      const own = Object.entries(this.now.seen).filter(([key]) => key.startsWith(`${phase} `));
      return Object.fromEntries(own.map(([key, count]) => [key.slice(phase.length + 1), count]));
    };
  }

  /** Waits until every connection is open and was asked some more, and asserts that `path` alone was answered, and rightly. */
  async isJudged(path: string, when: string): Promise<void> {
    const answers = await this.phase(), other = path === "/a" ? "/b" : "/a";
    const expected = [`${path} 200`, `${other} 403`].sort();
    await until(
      () => `every connection goes on ${when}: ${JSON.stringify(this.now)}`,
      () =>
        this.now.open === CONNECTIONS &&
        expected.every((key) => (answers()[key] ?? 0) >= CONNECTIONS),
    );
    this.holds(when);
    assert.deepEqual(Object.keys(answers()).sort(), expected, when);
  }

  holds(when: string): void {
    assert.deepEqual(this.now.wrong, [], `an answer to something else ${when}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writer.close().catch(() => {});
    try {
      this.#child.kill("SIGTERM");
    } catch { /* it has ended */ }
    await this.#child.status;
    await this.#reading;
  }
}

/** A stream and new connections to where no L7 rule is. */
class Plain implements AsyncDisposable {
  private constructor(readonly stream: PodStream, readonly attempts: Attempts) {}

  static async begin(): Promise<Plain> {
    const address = await addressOf(lab, "server-1", NODE);
    return new Plain(
      new PodStream(lab, "default/client-1", address, 80),
      new Attempts(lab, "client-1", address, 20),
    );
  }

  async goesOn(when: string): Promise<void> {
    const { count } = this.stream, made = this.attempts.made.length;
    await until(
      `flows without L7 rules go on ${when}`,
      () => this.stream.count > count + 3 && this.attempts.made.length > made + 2,
    );
    assert.equal(this.stream.stopped, false, `the stream stopped ${when}`);
    assert.match(this.attempts.made, /^y*$/, when);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.stream, this.attempts].map((each) => each[Symbol.asyncDispose]()));
  }
}

/** Ports of clients whose connections a process has. */
async function portsOf(worker: string): Promise<number[]> {
  const socket = `/run/weir/${lab.name}-${NODE}/${worker}.sock`;
  const { out } = await run("curl", ["-sS", "-m", "20", "--unix-socket", socket, "http://x/v1/connections"]);
  const { items = [] }: { items?: { connection: { clientPort: number } }[] } = JSON.parse(out);
  return items.map(({ connection }) => connection.clientPort);
}

/** Waits for another process in the place of each of these. */
async function areAnew(before: Record<string, number>): Promise<void> {
  for (const [name, pid] of Object.entries(before)) {
    await until(`${name} is another process`, async () => {
      const now = await processOf(lab, NODE, name);
      return now.state === "ready" && now.pid !== pid;
    });
  }
}

async function pidsOf(names: readonly string[]): Promise<Record<string, number>> {
  return Object.fromEntries(
    await Promise.all(names.map(async (name) => [name, await pidOf(lab, name, NODE)] as const)),
  );
}

let load: Load, plain: Plain;
if (canRun) {
  Deno.test.beforeAll(async () => {
    const agent = [`l7-proxy-workers=${WORKERS.length}`, "hung-after-s=6"];
    await lab.up(1, CAST, agent.flatMap((option) => ["--agent", `${NODE}:${option}`]));
    await lab.apply(allows("/a"));
    load = new Load(await addressOf(lab, "web", NODE));
    plain = await Plain.begin();
    await load.isJudged("/a", "at first");
  });
  Deno.test.afterAll(async () => {
    await load?.[Symbol.asyncDispose]();
    await plain?.[Symbol.asyncDispose]();
    await lab.down();
  });
}
const faults = (name: string, fn: () => Promise<void>) => Deno.test({ name, ignore: !canRun, fn });

faults(
  "one process is killed: its own connections end, all others go on, and another one comes",
  async () => {
    const held = await Promise.all(WORKERS.map(portsOf));
    assert.equal(held.flat().length, CONNECTIONS);
    assert.ok(held.every((ports) => ports.length > 0), JSON.stringify(held));
    const before = await pidsOf([WORKERS[1]]), { length } = load.now.ended;
    Deno.kill(before[WORKERS[1]], "SIGKILL");
    await areAnew(before);
    await load.isJudged("/a", "after one was killed");
    // Not those made since: the kernel may have given one to the process that was about to die.
    const ended = load.now.ended.slice(length).filter((port) => held.flat().includes(port));
    assert.deepEqual(ended.sort(), held[1].sort(), "its connections, and no other");
    await plain.goesOn("after one was killed");
  },
);

faults(
  "rules change under load: each next request is judged by the newest ones, on every connection",
  async () => {
    const { length } = load.now.ended;
    for (const path of ["/b", "/a", "/b", "/a"]) {
      const between = await load.phase();
      await lab.apply(allows(path));
      await load.isJudged(path, `with ${path}`);
      // Whatever the rules said meanwhile.
      const strange = Object.keys(between()).filter((key) => !/ (200|403)$/.test(key));
      assert.deepEqual(strange, []);
    }
    assert.equal(load.now.ended.length, length, "no connection ended");
  },
);

faults(
  "each process in turn is started anew, as by an upgrade: new connections are taken all the while",
  async () => {
    const { refused } = load.now;
    for (const worker of WORKERS) {
      const before = await pidsOf([worker]);
      Deno.kill(before[worker], "SIGTERM");
      await areAnew(before);
      await load.isJudged("/a", `after ${worker} was started anew`);
    }
    assert.equal(load.now.refused, refused, "who connects finds one of them");
    await plain.goesOn("after an upgrade");
  },
);

faults(
  "all of it stands still: nothing passes unjudged, other flows go on, and the agent starts it anew",
  async () => {
    const before = await pidsOf(WORKERS), when = "while all of it stands still";
    for (const pid of Object.values(before)) Deno.kill(pid, "SIGSTOP");
    try {
      // The kernel still takes the connection; whoever asks waits, and is not let by.
      const address = await addressOf(lab, "web", NODE);
      const words = ["curl", "-sS", "-m", "2", "-o", "/dev/null", `http://${address}:${PORT}/a`];
      const asked = await at(lab, { pod: "default/client-1" }, words);
      assert.notEqual(asked.code, 0, `${asked.out}${asked.err}`);
      await plain.goesOn(when);
      await areAnew(before);
    } finally {
      for (const pid of Object.values(before)) signal(pid, "SIGCONT");
    }
    const { lastError } = await processOf(lab, NODE, WORKERS[0]);
    assert.match(lastError, /^hung: /);
    await load.isJudged("/a", "after all were started anew");
    await plain.goesOn("after all were started anew");
  },
);

faults("the control plane is away: rules go on, also of a process that starts meanwhile", async () => {
  const plane = await pidsOf(["policy-engine", "identity-allocator"]), before = await pidsOf([WORKERS[2]]);
  for (const pid of Object.values(plane)) Deno.kill(pid, "SIGSTOP");
  try {
    Deno.kill(before[WORKERS[2]], "SIGKILL");
    await load.isJudged("/a", "without the control plane");
    await areAnew(before);
    await load.isJudged("/a", "by a process that started without it");
    await plain.goesOn("without the control plane");
  } finally {
    for (const pid of Object.values(plane)) signal(pid, "SIGCONT");
  }
  await until("the control plane is back", async () => (await lab.weir(["policy", "list"])).code === 0);
  await lab.apply(allows("/b"));
  await load.isJudged("/b", "with the control plane again");
});
