/** A network in this process: it loses, delays and doubles, cuts streams, and separates pairs. The seed decides. @module */
import type { Handler } from "@weir/common";
import { JOINT_WATCH_PATH } from "@weir/common/access-control";
import { Choices } from "./random.ts";
import type { Timed, VirtualTime } from "./virtual_time.ts";

/** A process of the simulated cluster, one life of it. */
export interface SimulatedProcess extends Timed {
  readonly name: string;
  /** Absent: it serves nobody. */
  handler?: Handler;
  /** Its next write is its last: it ends when that is not yet done, or just when it is. */
  endsAtWrite?: "before" | "after";
}

/** How two processes are separated: refused at once, or in silence until it is over. */
export type Separation = "refused" | "silent";

interface Stream {
  readonly ends: readonly [string, string];
  readonly cut: () => void;
}

/** Longest delay of a message that is delayed, milliseconds. */
const DELAY_MS_MAX = 4_000;

/** See the top of the file. */
export class Network {
  /** Whether single messages meet faults. */
  faulty = false;
  readonly #time: VirtualTime;
  readonly #seed: number;
  readonly #separated = new Map<string, Separation>();
  readonly #processes = new Map<string, SimulatedProcess>();
  readonly #sent = new Map<string, number>();
  readonly #streams = new Set<Stream>();
  #changed = Promise.withResolvers<void>();

  constructor(time: VirtualTime, seed: number) {
    this.#time = time;
    this.#seed = seed;
  }

  /** A process is there from now on, in the place of one of the same name. */
  join(process: SimulatedProcess): void {
    this.#processes.set(process.name, process);
    this.changed();
  }

  /** A process is gone: its streams end, and who asks it is refused. */
  leave(process: SimulatedProcess): void {
    process.dead = true;
    if (this.#processes.get(process.name) === process) this.#processes.delete(process.name);
    this.#cut(({ ends }) => ends.includes(process.name));
    this.changed();
  }

  /** A write of a process, to a disk, a database or a kernel. */
  async write<R>(process: SimulatedProcess, action: () => Promise<R>): Promise<R> {
    const { dead, endsAtWrite } = process;
    process.endsAtWrite = undefined;
    if (!dead && endsAtWrite === "before") this.leave(process);
    if (process.dead) return await new Promise<never>(() => {});
    const result = await action();
    if (endsAtWrite === "after") this.leave(process);
    return process.dead ? await new Promise<never>(() => {}) : result;
  }

  separate(a: string, b: string, how: Separation): void {
    this.#separated.set(pair(a, b), how);
    if (how === "refused") this.#cut(({ ends }) => pair(...ends) === pair(a, b));
    this.changed();
  }

  heal(): void {
    this.#separated.clear();
    this.changed();
  }

  /** Cuts the streams between two processes. */
  cutStreams(a: string, b: string): void {
    this.#cut(({ ends }) => pair(...ends) === pair(a, b));
  }

  /** Somebody was frozen, goes on, came or went. */
  changed(): void {
    const before = this.#changed;
    this.#changed = Promise.withResolvers();
    before.resolve();
    this.#time.touch();
  }

  /** How `from` reaches the process that is named `to` at that moment. */
  link(from: SimulatedProcess, to: string): Handler {
    const sleep = (ms: number) => this.#time.clock(from).sleep(ms);
    return async (request) => {
      const key = `${from.name}>${to} ${request.method} ${new URL(request.url).pathname}`;
      const number = (this.#sent.get(key) ?? 0) + 1;
      this.#sent.set(key, number);
      const choices = new Choices(this.#seed, `${key} ${number}`);
      const fate = this.faulty ? choices.next() : 1, delayMs = choices.below(DELAY_MS_MAX);
      const url = new URL(request.url);
      const isStream = url.searchParams.get("watch") === "true" || url.pathname.endsWith(":watch") ||
        url.pathname === JOINT_WATCH_PATH;
      await this.#pass(from, to);
      if (fate < 0.04) throw new TypeError("simulated network: the request was lost");
      if (fate < 0.06) return await new Promise<never>(() => {});
      if (fate < 0.18) await sleep(delayMs);
      const again = fate > 0.9 && fate < 1 && !isStream ? request.clone() : undefined;
      const answer = await this.#serve(from, to, request);
      if (again) await this.#serve(from, to, again).then((second) => second.body?.cancel(), () => {});
      if (fate > 0.18 && fate < 0.24) await sleep(delayMs);
      if (fate > 0.24 && fate < 0.28) {
        await answer.body?.cancel();
        throw new TypeError("simulated network: the answer was lost");
      }
      await this.#pass(from, to);
      this.#time.touch();
      return isStream && answer.body ? this.#stream(from, to, answer, choices) : answer;
    };
  }

  /** Resolves when messages pass between the two. @throws {TypeError} when they are refused */
  async #pass(from: SimulatedProcess, to: string): Promise<void> {
    while (true) {
      this.#time.touch();
      const how = this.#separated.get(pair(from.name, to)), peer = this.#processes.get(to);
      if (how === "refused" && !from.dead) throw new TypeError("simulated network: separated");
      if (!from.dead && !from.frozen && how === undefined) {
        if (peer?.handler === undefined) throw new TypeError("simulated network: nobody listens");
        if (!peer.frozen) return;
      }
      if (from.dead) return await new Promise<never>(() => {});
      await this.#changed.promise;
    }
  }

  async #serve(from: SimulatedProcess, to: string, request: Request): Promise<Response> {
    await this.#pass(from, to);
    const peer = this.#processes.get(to)!;
    const answer = await peer.handler!(request);
    if (peer.dead) throw new TypeError("simulated network: the process ended");
    return answer;
  }

  #stream(from: SimulatedProcess, to: string, answer: Response, choices: Choices): Response {
    let end: TransformStreamDefaultController<Uint8Array>;
    const stream: Stream = {
      ends: [from.name, to],
      cut: () => end.error(new TypeError("simulated network: the stream was cut")),
    };
    const clock = this.#time.clock(from);
    const through = new TransformStream<Uint8Array, Uint8Array>({
      start: (controller) => void (end = controller),
      transform: async (chunk, controller) => {
        const fate = this.faulty ? choices.next() : 1, delayMs = choices.below(DELAY_MS_MAX);
        if (fate < 0.15) await clock.sleep(delayMs);
        await this.#pass(from, to);
        controller.enqueue(chunk);
      },
      flush: () => void this.#streams.delete(stream),
    });
    this.#streams.add(stream);
    return new Response(answer.body!.pipeThrough(through), answer);
  }

  #cut(which: (stream: Stream) => boolean): void {
    for (const stream of [...this.#streams].filter(which)) {
      this.#streams.delete(stream);
      stream.cut();
    }
    this.#time.touch();
  }
}

function pair(a: string, b: string): string {
  return a < b ? `${a} ${b}` : `${b} ${a}`;
}
