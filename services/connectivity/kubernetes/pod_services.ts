/** The services of one pod of Weir, asked through the API server. @module */
import { ProblemError } from "@weir/common/problem";
import { linesOf } from "../lines.ts";
import type { PlaceProgram } from "../target.ts";
import type { RelayAnswer, RelayCancel, RelayRequest } from "./service_relay.ts";

/** Path of the program, and what it is run with. */
export const RELAY = new URL("./service_relay.ts", import.meta.url).pathname;
export const RELAY_FLAGS = [
  ...["--quiet", "--no-config", "--no-lock", "--no-prompt", "--allow-net"],
  ...["--allow-read=/run/weir", "--allow-write=/run/weir"],
];
/** Requests that wait, and streams that go on, at once; more are refused. */
const WAITING_MAX = 1000;
/** What nobody has read yet of one answer may have so many bytes; of more the answer fails. */
const UNREAD_BYTES_MAX = 16 << 20;

/** Asks by one program, which is begun when it is needed, and anew after it was lost. */
export class PodServices {
  readonly #waiting = new Map<number, Exchange>();
  #program: PlaceProgram | undefined;
  #next = 1;
  #isOver = false;

  /**
   * @param begin starts the program in the pod
   * @param directory of the sockets there
   * @param pod for messages: "weir-system/weir-node-abcde"
   */
  constructor(
    readonly begin: () => PlaceProgram,
    readonly directory: string,
    readonly pod: string,
    readonly unreadBytesMax: number = UNREAD_BYTES_MAX,
  ) {}

  /** Asks a service; the body comes as the service sends it. @throws {ProblemError} POD_UNREACHABLE */
  async fetch(service: string, request: Request): Promise<Response> {
    const url = new URL(request.url), id = this.#next++;
    const asked: RelayRequest = {
      id,
      socket: `${this.directory}/${service}.sock`,
      method: request.method,
      path: url.pathname + url.search,
      headers: Object.fromEntries(request.headers),
      body: (await request.bytes()).toBase64(),
    };
    request.signal.throwIfAborted();
    if (this.#isOver || this.#waiting.size >= WAITING_MAX) {
      throw this.#unreachable(service, "too many requests wait");
    }
    const exchange = new Exchange({
      signal: request.signal,
      unreadBytesMax: this.unreadBytesMax,
      unreachable: (why) => this.#unreachable(service, why),
      over: (isCancelled) => {
        this.#waiting.delete(id);
        if (isCancelled) void this.#say({ id, isCancelled: true }).catch(() => {});
      },
    });
    this.#waiting.set(id, exchange);
    await this.#begin().write(JSON.stringify(asked) + "\n").catch(({ message }) =>
      exchange.take({ id, error: message || "it gave no reason" })
    );
    return await exchange.response;
  }

  /** Ends the program. Repeatable. */
  async stop(): Promise<void> {
    this.#isOver = true;
    await this.#program?.stop();
  }

  #begin(): PlaceProgram {
    if (this.#program === undefined) {
      this.#program = this.begin();
      void this.#read(this.#program);
    }
    return this.#program;
  }

  async #say(what: RelayCancel): Promise<void> {
    await this.#program?.write(JSON.stringify(what) + "\n");
  }

  async #read(program: PlaceProgram): Promise<void> {
    let why = "";
    try {
      for await (const line of linesOf(program.output)) {
        const answer = JSON.parse(line) as RelayAnswer;
        this.#waiting.get(answer.id)?.take(answer);
      }
    } catch (error) {
      why = (error as Error).message;
    }
    if (this.#program === program) this.#program = undefined;
    const said = program.stderr.trim().split("\n")[0] || why || "the program that asks has ended";
    for (const [id, exchange] of this.#waiting) exchange.take({ id, error: said });
    await program.stop();
  }

  #unreachable(service: string, why: string): ProblemError {
    return new ProblemError("POD_UNREACHABLE", {
      status: 503,
      detail: `Cannot reach ${service} in pod ${this.pod}: ${why}`,
    });
  }
}

/** One question and its answer, as far as it has come. */
class Exchange {
  readonly #head = Promise.withResolvers<Response>();
  #body: ReadableStreamDefaultController<Uint8Array> | undefined;
  #isOver = false;
  readonly #abort: () => void;

  constructor(
    readonly options: {
      signal: AbortSignal;
      unreadBytesMax: number;
      unreachable: (why: string) => Error;
      /** @param isCancelled the other side does not know yet */
      over: (isCancelled: boolean) => void;
    },
  ) {
    this.#head.promise.catch(() => {});
    this.#abort = () => this.#fail(options.signal.reason, true);
    options.signal.addEventListener("abort", this.#abort, { once: true });
  }

  /** When its head is there. */
  get response(): Promise<Response> {
    return this.#head.promise;
  }

  take(answer: RelayAnswer): void {
    if (this.#isOver) return;
    if ("status" in answer) {
      const { status, headers } = answer, hasBody = status !== 204 && status !== 304;
      const body = !hasBody ? null : new ReadableStream<Uint8Array>(
        { start: (controller) => void (this.#body = controller), cancel: () => this.#end(true) },
        { highWaterMark: this.options.unreadBytesMax, size: ({ byteLength }) => byteLength },
      );
      this.#head.resolve(new Response(body, { status, headers }));
    } else if ("piece" in answer) {
      const bytes = Uint8Array.fromBase64(answer.piece);
      if (bytes.length > (this.#body?.desiredSize ?? 0)) {
        const why = `more than ${this.options.unreadBytesMax} bytes of the answer wait to be read`;
        return this.#fail(this.options.unreachable(why), true);
      }
      this.#body?.enqueue(bytes);
    } else if (answer.error !== "") this.#fail(this.options.unreachable(answer.error), false);
    else {
      this.#end(false);
      this.#body?.close();
      this.#head.reject(this.options.unreachable("the answer has no head"));
    }
  }

  #fail(error: unknown, isCancelled: boolean): void {
    if (this.#isOver) return;
    this.#end(isCancelled);
    this.#head.reject(error);
    this.#body?.error(error);
  }

  #end(isCancelled: boolean): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.options.signal.removeEventListener("abort", this.#abort);
    this.options.over(isCancelled);
  }
}
