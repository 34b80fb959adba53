/**
 * A program in a container, as it runs: the subprotocol `v5.channel.k8s.io` of the pods' subresource `exec`.
 *
 *     each message   | channel (1 byte) | bytes |
 *     channel        0 stdin, 1 stdout, 2 stderr, 3 how it ended (a Status), 255 no more of the channel that the byte names
 *
 * @module
 */
import { ApiServerError, statusError } from "./error.ts";
import { resourcePath, RESOURCES } from "./resource.ts";

/** The only version of the protocol that is spoken: it alone can end stdin (Kubernetes 1.30). */
export const EXEC_PROTOCOL = "v5.channel.k8s.io";

const STDIN = 0, STDOUT = 1, STDERR = 2, STATUS = 3, CLOSE = 255;
const UNREAD_BYTES_MAX = 16 << 20;
const STDERR_CHARS_MAX = 4000;
/** What the API server does not take of stdin stays in this process, up to so much. */
const UNSENT_BYTES_MAX = 4 << 20;

/** What is run, and where. */
export interface ExecProgram {
  readonly namespace: string;
  readonly pod: string;
  /** Default: the pod's only one. */
  readonly container?: string;
  readonly command: readonly string[];
  /** Output that nobody has read yet may have so many bytes; default 16 MiB. */
  readonly unreadBytesMax?: number;
}

/** Path and query of the subresource. */
export function execPath({ namespace, pod, container, command }: ExecProgram): string {
  const query = new URLSearchParams({ stdin: "true", stdout: "true", stderr: "true" });
  if (container !== undefined) query.set("container", container);
  for (const word of command) query.append("command", word);
  return `${resourcePath(RESOURCES.Pod, { namespace, name: pod, subresource: "exec" })}?${query}`;
}

/** A program that runs in a container. Its stdin ends when the session does: a program that reads it can end then too. */
export class ExecSession implements Disposable {
  /** What it writes; it ends, or fails with the session's error, when the program has ended. */
  readonly stdout: ReadableStream<Uint8Array<ArrayBuffer>>;
  /**
   * Its exit code. Rejects where there is none: ApiServerError CONNECTION_LOST, OUTPUT_TOO_LARGE, or what the API server says.
   */
  readonly exitCode: Promise<number>;
  #stderr = "";
  #stdout!: ReadableStreamDefaultController<Uint8Array<ArrayBuffer>>;
  #isOver = false;
  readonly #decoder = new TextDecoder();
  readonly #exit = Promise.withResolvers<number>();

  /** @param socket of {@link EXEC_PROTOCOL}; it may still be opening @param action for messages: "run env in Pod ns/name" */
  constructor(
    readonly socket: WebSocket,
    readonly action: string,
    readonly unreadBytesMax: number = UNREAD_BYTES_MAX,
  ) {
    this.exitCode = this.#exit.promise;
    this.exitCode.catch(() => {});
    this.stdout = new ReadableStream(
      { start: (controller) => void (this.#stdout = controller), cancel: () => this.close() },
      { highWaterMark: unreadBytesMax, size: ({ byteLength }) => byteLength },
    );
    socket.addEventListener("message", ({ data }) => this.#take(data));
    socket.addEventListener("error", (event) => this.#lost((event as ErrorEvent).message));
    socket.addEventListener("close", ({ reason }) => this.#lost(reason || "the connection was closed"));
  }

  /** The end of what it wrote to stderr. */
  get stderr(): string {
    return this.#stderr;
  }

  /** Gives it input. @throws {ApiServerError} CONNECTION_LOST; INPUT_TOO_LARGE: it does not read */
  write(bytes: Uint8Array): void {
    if (this.#isOver) throw this.#error("CONNECTION_LOST", "the program has ended");
    if (this.socket.bufferedAmount + bytes.length > UNSENT_BYTES_MAX) {
      throw this.#error("INPUT_TOO_LARGE", `more than ${UNSENT_BYTES_MAX} bytes of input wait to be read`);
    }
    this.#send(STDIN, bytes);
  }

  /** Its input is at its end. */
  endInput(): void {
    if (!this.#isOver) this.#send(CLOSE, new Uint8Array([STDIN]));
  }

  /** Ends the session. Repeatable. */
  close(): void {
    this.#lost("it was closed here");
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #send(channel: number, bytes: Uint8Array): void {
    const message = new Uint8Array(bytes.length + 1);
    message[0] = channel;
    message.set(bytes, 1);
    this.socket.send(message);
  }

  #take(data: unknown): void {
    if (!(data instanceof ArrayBuffer) || data.byteLength === 0 || this.#isOver) return;
    const [channel] = new Uint8Array(data, 0, 1), bytes = new Uint8Array(data, 1);
    switch (channel) {
      case STDOUT:
        if (bytes.length === 0) return;
        if (bytes.length > (this.#stdout.desiredSize ?? 0)) {
          const detail = `more than ${this.unreadBytesMax} bytes of output wait to be read`;
          return this.#fail(this.#error("OUTPUT_TOO_LARGE", detail));
        }
        return this.#stdout.enqueue(bytes);
      case STDERR:
        this.#stderr = (this.#stderr + this.#decoder.decode(bytes, { stream: true })).slice(
          -STDERR_CHARS_MAX,
        );
        return;
      case STATUS:
        return this.#end(new TextDecoder().decode(bytes));
    }
  }

  #end(text: string): void {
    let status: unknown;
    try {
      status = JSON.parse(text);
    } catch {
      return this.#fail(this.#error("ANSWER_INVALID", "nobody can read how the program ended"));
    }
    const code = exitCodeOf(status);
    if (code === undefined) {
      // It comes without its kind.
      const body = { ...(status as Record<string, unknown> | null), kind: "Status" };
      return this.#fail(statusError(this.action, { status: 502, body, text }));
    }
    this.#isOver = true;
    this.#stdout.close();
    this.#exit.resolve(code);
    this.socket.close();
  }

  #lost(reason: string): void {
    this.#fail(this.#error("CONNECTION_LOST", reason));
  }

  #fail(error: Error): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#exit.reject(error);
    try {
      this.#stdout.error(error);
    } catch {
      // Who read it has cancelled it.
    }
    this.socket.close();
  }

  #error(code: string, detail: string): ApiServerError {
    return new ApiServerError(code, { status: 502, detail: `Cannot ${this.action}: ${detail}` });
  }
}

/** The exit code that a Status says; undefined: it did not run to its end. */
export function exitCodeOf(status: unknown): number | undefined {
  const { status: state, reason, details } = (status ?? {}) as {
    status?: unknown;
    reason?: unknown;
    details?: { causes?: { reason?: unknown; message?: unknown }[] };
  };
  if (state === "Success") return 0;
  if (reason !== "NonZeroExitCode" || !Array.isArray(details?.causes)) return undefined;
  const code = Number(details.causes.find((cause) => cause?.reason === "ExitCode")?.message);
  return Number.isInteger(code) && code >= 0 && code <= 255 ? code : undefined;
}
