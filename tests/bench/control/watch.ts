/**
 * What watchers cost: CPU and memory of the list and watch layer per watcher and per change, in one process over the
 * handler (no socket, so that nothing but this layer is measured; reading the bytes is in it, the same on both sides).
 *
 *     deno run -A tests/bench/control/watch.ts [--watchers 100,10000] [--objects 2000]
 *     git worktree add --detach ../before REVISION
 *     deno run -A tests/bench/control/watch.ts --before ../before
 *
 * With `--before FOLDER` the same bench also runs in that checkout, in turns, and each row has the ratio after/before.
 * @module
 */
import process from "node:process";
import { parseArgs } from "node:util";
import { Node } from "@weir/proto/identity";
import { ApiServer, PROTOBUF_TYPE, WatchedTable } from "@weir/common";

const { values: options } = parseArgs({
  options: {
    before: { type: "string" },
    watchers: { type: "string", default: "100,10000" },
    objects: { type: "string", default: "2000" },
    turns: { type: "string", default: "2" },
    measure: { type: "boolean", default: false },
  },
});
const counts = options.watchers.split(",").map(Number), objects = Number(options.objects);

/** Figures by name: less is better in all of them. */
type Figures = Record<string, number>;

/** One reader of a watch: counts what comes, and knows whether it is in sync. */
class Reader {
  chunks = 0;
  frames = 0;
  synced = false;
  lost = false;

  constructor(answer: Response, readonly stop: AbortController) {
    if (!answer.ok) throw new Error(`Cannot watch: ${answer.status}`);
    void this.#read(answer.body!.getReader());
  }

  async #read(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<void> {
    this.stop.signal.addEventListener("abort", () => void reader.cancel().catch(() => {}));
    try {
      while (true) {
        const { done, value } = await reader.read();
        if (done) return;
        this.chunks++;
        for (let at = 0; at < value.length;) {
          let length = 0, shift = 0, byte: number;
          do {
            byte = value[at++];
            length |= (byte & 0x7f) << shift;
            shift += 7;
          } while (byte >= 0x80);
          this.frames++;
          // Field 1 (the type) comes first: 3 is SYNCED.
          if (value[at] === 8 && value[at + 1] === 3) this.synced = true;
          at += length;
        }
      }
    } catch {
      this.lost = true;
    }
  }
}

const nameOf = (n: number) => `n${n}`;
const valueOf = (n: number, serial: number) =>
  Node.create({
    name: nameOf(n),
    cluster: `c${n}`,
    ipv4: `10.${n >> 8 & 255}.${n & 255}.${serial & 255}`,
    labels: ["a=b", "zone=one"],
  });

function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

async function until(what: () => boolean): Promise<void> {
  while (!what()) await new Promise((resolve) => setTimeout(resolve, 0));
}

function memoryMb(): number {
  (globalThis as { gc?: () => void }).gc?.();
  const { heapUsed, external } = Deno.memoryUsage();
  return (heapUsed + external) / 1e6;
}

/** `watchers` streams of `path`, in sync; with what opening them cost. */
async function open(api: ApiServer, path: (i: number) => string, watchers: number) {
  const stop = new AbortController();
  const memory = memoryMb(), cpu = cpuMs();
  const readers: Reader[] = [];
  for (let i = 0; i < watchers; i++) {
    const request = new Request(`http://x/v1/nodes?watch=true${path(i)}`, {
      headers: { accept: PROTOBUF_TYPE },
    });
    readers.push(new Reader(await api.fetch(request), stop));
  }
  await until(() => readers.every((reader) => reader.synced));
  return {
    readers,
    close: () => stop.abort(),
    cpuMs: cpuMs() - cpu,
    kbPerWatcher: Math.max(0, (memoryMb() - memory) * 1000 / watchers),
  };
}

async function measure(watchers: number): Promise<Figures> {
  const table = new WatchedTable<Node>({ name: "nodes" });
  const api = new ApiServer({ name: "bench" });
  api.collection({
    name: "nodes",
    message: Node,
    table,
    indexes: { cluster: (node: Node) => node.cluster },
    // Checkouts without indexes filter by these.
    filters: { cluster: (cluster: string) => (node: Node) => node.cluster === cluster },
  });
  for (let n = 0; n < objects; n++) table.put(nameOf(n), valueOf(n, 0));
  const figures: Figures = {};
  const note = (name: string, value: number) => figures[`${watchers} watchers: ${name}`] = value;
  let serial = 1;
  const change = (n: number) => table.put(nameOf(n), valueOf(n, serial++));

  const all = await open(api, () => "", watchers);
  note("first list of everything, CPU ms per watcher", all.cpuMs / watchers);
  note("memory kB per watcher of everything", all.kbPerWatcher);
  let rounds = Math.max(5, Math.round(20_000 / watchers)), cpu = cpuMs();
  for (let round = 0; round < rounds; round++) {
    const before = all.readers.map(({ frames }) => frames);
    change(round % objects);
    await until(() => all.readers.every(({ frames }, i) => frames > before[i]));
  }
  note("one change that all see, CPU ms", (cpuMs() - cpu) / rounds);
  rounds = 20;
  cpu = cpuMs();
  for (let round = 0; round < rounds; round++) {
    table.advance(table.revision + 1);
    for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setTimeout(resolve, 0));
  }
  note("one change of another collection, CPU ms", (cpuMs() - cpu) / rounds);
  {
    const before = all.readers.map(({ frames }) => frames), burst = 1000;
    const chunksOf = () => all.readers.reduce((sum, { chunks }) => sum + chunks, 0), chunks = chunksOf();
    cpu = cpuMs();
    for (let n = 0; n < burst; n++) {
      change(n % objects);
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
    await until(() => all.readers.every(({ frames, lost }, i) => lost || frames - before[i] >= burst));
    note("1,000 changes in turns of their own, CPU ms per change", (cpuMs() - cpu) / burst);
    note("writes per watcher and change of these", (chunksOf() - chunks) / watchers / burst);
  }
  if (watchers <= 1000) {
    const before = all.readers.map(({ frames }) => frames), burst = 10_000;
    cpu = cpuMs();
    for (let n = 0; n < burst; n++) change(n % objects);
    await until(() => all.readers.every(({ frames, lost }, i) => lost || frames - before[i] >= burst));
    note("10,000 changes at once, CPU ms", cpuMs() - cpu);
    note("streams cut by 10,000 changes at once", all.readers.filter(({ lost }) => lost).length);
  }
  all.close();
  await new Promise((resolve) => setTimeout(resolve, 50));

  const keyed = await open(api, (i) => `&cluster=c${i % objects}`, watchers);
  note("memory kB per watcher of one key", keyed.kbPerWatcher);
  rounds = 50;
  cpu = cpuMs();
  for (let round = 0; round < rounds; round++) {
    const key = round % Math.min(objects, watchers), { frames } = keyed.readers[key];
    change(key);
    await until(() => keyed.readers[key].frames > frames);
  }
  note("one change that one key's watchers see, CPU ms", (cpuMs() - cpu) / rounds);
  keyed.close();
  await new Promise((resolve) => setTimeout(resolve, 50));
  return figures;
}

async function measureAll(): Promise<Figures> {
  const figures: Figures = {};
  for (const watchers of counts) Object.assign(figures, await measure(watchers));
  return figures;
}

/** The figures of a checkout, from a process of its own. */
async function run(folder: string, path: string): Promise<Figures> {
  const { success, stdout } = await new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "-A", "--no-check", "--v8-flags=--expose-gc", path, "--measure"],
      ...["--watchers", options.watchers, "--objects", options.objects],
    ],
    cwd: folder,
    stderr: "inherit",
  }).output();
  if (!success) throw new Error(`Cannot measure ${folder}: the bench failed there`);
  return JSON.parse(new TextDecoder().decode(stdout).trimEnd().split("\n").at(-1)!);
}

function keepLeast(into: Figures, found: Figures): void {
  for (const [name, value] of Object.entries(found)) into[name] = Math.min(into[name] ?? Infinity, value);
}

if (options.measure) {
  console.log(JSON.stringify(await measureAll()));
} else {
  const here = new URL("../../../", import.meta.url).pathname, path = "tests/bench/control/watch.ts";
  const guest = `${options.before}/tests/bench/watch_guest.ts`;
  const before: Figures = {}, after: Figures = {};
  if (options.before !== undefined) await Deno.copyFile(here + path, guest);
  try {
    for (let turn = 0; turn < Number(options.turns); turn++) {
      if (options.before !== undefined) {
        keepLeast(before, await run(options.before, "tests/bench/watch_guest.ts"));
      }
      keepLeast(after, await run(here, path));
    }
  } finally {
    if (options.before !== undefined) await Deno.remove(guest);
  }
  console.log("| least of the turns | before | after | after/before |\n|---|---|---|---|");
  for (const [name, value] of Object.entries(after)) {
    const was = before[name];
    const ratio = was === undefined || was === 0 ? "-" : (value / was).toFixed(3);
    console.log(`| ${name} | ${was?.toFixed(3) ?? "-"} | ${value.toFixed(3)} | ${ratio} |`);
  }
}
