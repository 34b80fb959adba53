/**
 * One connection of HTTP/1.1, from its first request to its end. Requests are judged and passed on one after the other: the next one
 * is looked at when the last one is answered, so answers keep their order whoever gives them, and no more is held than one buffer
 * for each direction.
 *
 *     client ─▶ head ─▶ judge ─▶ allowed: head and body ─▶ server ─▶ answer ─▶ client
 *                          └───▶ denied: 403 ─────────────────────────────────▶ client
 *
 * @module
 */
import { closeQuietly, Inflow, type Socket, writeAll } from "../socket.ts";
import { splice } from "../splice.ts";
import { BodyReader } from "./body_reader.ts";
import { HeadFinder } from "./fields.ts";
import { type FieldChange, forwardedHead } from "./head_change.ts";
import { Http1Error } from "./http1_error.ts";
import { HTTP1_LIMITS } from "./limits.ts";
import { faultAnswer, type LocalAnswer, localAnswer } from "./local_answer.ts";
import { checkFirstBytes, readRequestHead, type RequestHead } from "./request_head.ts";
import { readResponseHead, type ResponseHead } from "./response_head.ts";

/** What becomes of a request. */
export type Judgement =
  | { readonly verdict: "allowed"; readonly changes: readonly FieldChange[] }
  | { readonly verdict: "denied" }
  /** No rule is for this connection any more. */
  | { readonly verdict: "closed"; readonly why: string };

/** What a connection waits for: each has its own limit of time. */
export type Waiting = "idle" | "head" | "stream" | "spliced";

/** Why a connection ended, for counters: a fault, or one of these. */
export type Http1End = string;

/** What a connection needs from outside. */
export interface Http1Host {
  /** Decides by the newest rules. Called once for each request. */
  judge(head: RequestHead): Judgement;
  /** Opens the connection to the server. Called once, when the first request is allowed. */
  connect(): Promise<Socket>;
  /** A request was answered, by the server or (`isLocal`) by us. */
  answered(head: RequestHead, answer: Pick<ResponseHead, "status" | "fields">, isLocal: boolean): void;
  /** What could not be read ends the connection. */
  fault(error: Http1Error, side: "client" | "server"): void;
  /** What it waits for from now on. */
  waits(what: Waiting): void;
  /** Something moved. */
  moved(): void;
}

/** The server cannot be reached. */
export class ConnectError extends Error {
  override readonly name = "ConnectError";
}

/** One connection. */
export class Http1Connection {
  #server: Socket | undefined;
  #fromServer: Inflow | undefined;
  /** The side whose bytes are looked at. */
  #side: "client" | "server" = "client";
  #isFirst = true;
  readonly #client: Socket;
  readonly #fromClient: Inflow;
  readonly #host: Http1Host;
  readonly #finder = new HeadFinder();

  /** @param from what came from the client so far */
  constructor(client: Socket, host: Http1Host, from = new Inflow(client)) {
    this.#client = client;
    this.#host = host;
    this.#fromClient = from;
    // Who sits waiting for the server hears at once that nobody waits for the answer.
    from.onError = () => closeQuietly(this.#server);
  }

  /** Runs the connection to its end and closes both sides. Never rejects. @returns why it ended */
  async run(): Promise<Http1End> {
    try {
      for (;;) {
        const end = await this.#exchange();
        if (end !== undefined) return end;
      }
    } catch (error) {
      if (error instanceof Http1Error) return await this.#giveUp(error);
      return error instanceof ConnectError ? "server-refused" : "reset";
    } finally {
      this.close();
      this.#fromClient.close();
      this.#fromServer?.close();
    }
  }

  /** Ends it from outside: reads and writes under way fail. */
  close(): void {
    closeQuietly(this.#client);
    closeQuietly(this.#server);
  }

  /** One request and its answer. @returns why the connection ends, or undefined: it goes on */
  async #exchange(): Promise<Http1End | undefined> {
    this.#side = "client";
    this.#host.waits("idle");
    if (!await this.#waitForRequest()) return this.#fromServer?.ended ? "server-closed" : "client-closed";
    this.#host.waits("head");
    const head = await this.#readRequest();
    if (head === undefined) return "client-closed";
    this.#host.waits("stream");
    const judgement = this.#host.judge(head);
    if (judgement.verdict === "closed") return judgement.why;
    if (judgement.verdict === "denied") return await this.#answer(head, localAnswer(head, 403));
    const { redirect } = head.target;
    if (redirect !== undefined) return await this.#answer(head, localAnswer(head, 307, redirect));
    if (this.#server === undefined) {
      try {
        this.#server = await this.#host.connect();
      } catch (error) {
        await this.#answer(head, localAnswer(head, 503, (error as Error).message));
        return "server-refused";
      }
      this.#fromServer = new Inflow(this.#server);
    }
    return await this.#forward(head, judgement.changes);
  }

  /** @returns false: there will be none */
  async #waitForRequest(): Promise<boolean> {
    const from = this.#fromClient;
    if (from.size === 0) from.prefetch();
    while (from.size === 0) {
      if (from.ended) return false;
      const server = this.#fromServer;
      if (server === undefined) await from.fill();
      else {
        server.prefetch();
        await Promise.race([from.fill(), server.fill()]);
        if (server.size > 0) {
          this.#side = "server";
          throw new Http1Error("unasked-answer");
        }
        // A server that hangs up between two requests: so do we, and the client opens another connection.
        if (server.ended && from.size === 0) return false;
      }
    }
    this.#host.moved();
    return true;
  }

  async #readRequest(): Promise<RequestHead | undefined> {
    const from = this.#fromClient, finder = this.#finder;
    // One empty line before a request is from a client that ended its last body with one too many.
    if (!this.#isFirst && from.bytes[from.start] === CR) {
      while (from.size < 2 && await from.fill());
      if (from.bytes[from.start + 1] === LF) from.use(from.start + 2);
      while (from.size === 0) if (!await from.fill()) return undefined;
    }
    this.#isFirst = false;
    finder.reset();
    let end = -1, seen = 0;
    while (end < 0) {
      if (seen < PREFACE_BYTES) checkFirstBytes(from.bytes, from.start, from.end);
      seen = from.size;
      end = finder.find(from.bytes, from.start, from.end);
      if (end >= 0) break;
      if (from.size >= HTTP1_LIMITS.head) {
        throw new Http1Error("head-too-long", `more than ${HTTP1_LIMITS.head} bytes`);
      }
      if (!finder.hasLine && from.size > HTTP1_LIMITS.requestLine) {
        throw new Http1Error("request-line-too-long", `more than ${HTTP1_LIMITS.requestLine} bytes`);
      }
      if (!await from.fill()) throw new Http1Error("early-end");
    }
    if (end - from.start > HTTP1_LIMITS.head) throw new Http1Error("head-too-long");
    return readRequestHead(from.bytes, from.start, end);
  }

  /** Answers in the server's place. */
  async #answer(head: RequestHead, { status, bytes }: LocalAnswer): Promise<Http1End | undefined> {
    this.#host.answered(head, { status, fields: [] }, true);
    await writeAll(this.#client, bytes);
    this.#fromClient.use(head.end);
    if (!head.keepsAlive) return await this.#finish("closed-by-request");
    // Whether the body comes after the refusal is up to the client, and both look alike.
    if (head.expectsContinue && head.body !== "none") return await this.#finish("denied-before-body");
    const reader = new BodyReader(head.body, head.length);
    let discarded = 0;
    while (!reader.done) {
      const from = this.#fromClient;
      const before = from.size, { read } = reader.look(from.bytes, from.start, from.end);
      discarded += read - from.start;
      from.use(read);
      if (discarded > HTTP1_LIMITS.discardedBody || reader.left > HTTP1_LIMITS.discardedBody) {
        return await this.#finish("denied-large-body");
      }
      if (!reader.done && from.size === 0 && !await from.fill()) {
        return before === 0 ? "client-closed" : "reset";
      }
      this.#host.moved();
    }
    return undefined;
  }

  /** Says that no more comes, and lets what the client has sent arrive: a reset would take the answer from it. */
  async #finish(end: Http1End): Promise<Http1End> {
    this.#host.waits("head");
    closeQuietly(this.#server);
    await this.#client.closeWrite();
    const from = this.#fromClient;
    for (let bytes = 0; bytes < HTTP1_LIMITS.discardedBody;) {
      from.use(from.end);
      const isMore = await from.fill();
      if (!isMore) break;
      bytes += from.size;
    }
    return end;
  }

  async #forward(head: RequestHead, changes: readonly FieldChange[]): Promise<Http1End | undefined> {
    const from = this.#fromClient, server = this.#server!;
    const first = forwardedHead(from.bytes, from.start, head, changes);
    const reader = new BodyReader(head.body, head.length);
    const { read, passed } = reader.look(from.bytes, head.end, from.end);
    const isAsIs = first.buffer === from.bytes.buffer;
    await writeAll(server, isAsIs ? from.bytes.subarray(from.start, passed) : first);
    if (!isAsIs && passed > head.end) await writeAll(server, from.bytes.subarray(head.end, passed));
    if (reader.tail.length > 0) await writeAll(server, reader.tail);
    from.use(read);
    if (reader.done) {
      from.prefetch();
      return await this.#endAfter(await this.#relayAnswer(head));
    }
    const body = this.#relayBody(reader);
    const answer = this.#relayAnswer(head);
    // Whichever fails first ends both.
    await Promise.race([body, answer]);
    const end = await answer;
    if (reader.done) return await this.#endAfter(end);
    // It is answered before it was sent whole: a client that waits for leave to send may never do so.
    if (end === undefined && !head.expectsContinue) {
      await body;
      return undefined;
    }
    this.#host.waits("head");
    await this.#client.closeWrite();
    await body.catch(() => {});
    return end ?? "answered-before-body";
  }

  /** Ends the connection in order where an answer says so. */
  async #endAfter(end: Http1End | undefined): Promise<Http1End | undefined> {
    return end?.startsWith("closed-by-") ? await this.#finish(end) : end;
  }

  /** Passes on what is left of a request's body. A server that takes no more may still answer. */
  async #relayBody(reader: BodyReader): Promise<void> {
    const from = this.#fromClient, server = this.#server!;
    let isDeaf = false;
    const write = async (bytes: Uint8Array) => {
      if (isDeaf || bytes.length === 0) return;
      try {
        await writeAll(server, bytes);
      } catch {
        isDeaf = true;
      }
    };
    try {
      while (!reader.done) {
        if (from.size === 0 && !await from.fill()) throw new Http1Error("early-end");
        const { read, passed } = reader.look(from.bytes, from.start, from.end);
        await write(from.bytes.subarray(from.start, passed));
        await write(reader.tail);
        from.use(read);
        this.#host.moved();
      }
      from.prefetch();
    } catch (error) {
      // The other half must not wait for an answer to what was never asked.
      closeQuietly(server);
      throw error;
    }
  }

  /** Passes on the answer. @returns why the connection ends after it, or undefined */
  async #relayAnswer(head: RequestHead): Promise<Http1End | undefined> {
    for (let interim = 0;; interim++) {
      if (interim > HTTP1_LIMITS.interimCount) throw this.#faultOfServer("answer-too-many");
      const answer = await this.#readAnswer(head);
      if (answer === undefined) return "server-closed";
      if (answer.status === 101) return await this.#upgrade(head, answer);
      if (answer.status >= 200) return await this.#relayAnswerBody(head, answer);
      await this.#passAnswer(answer.end);
    }
  }

  async #upgrade(head: RequestHead, answer: ResponseHead): Promise<Http1End> {
    if (!head.isWebSocket) throw this.#faultOfServer("unasked-upgrade");
    this.#host.answered(head, answer, false);
    await this.#passAnswer(answer.end);
    this.#host.waits("spliced");
    const moved = () => this.#host.moved();
    await Promise.all([
      splice(this.#fromClient, this.#server!, moved),
      splice(this.#fromServer!, this.#client, moved),
    ]);
    return "spliced";
  }

  /** @returns undefined when the server hung up instead */
  async #readAnswer(head: RequestHead): Promise<ResponseHead | undefined> {
    const from = this.#fromServer!, finder = new HeadFinder();
    try {
      let end = -1;
      while ((end = finder.find(from.bytes, from.start, from.end)) < 0) {
        if (from.size >= HTTP1_LIMITS.head) throw new Http1Error("head-too-long");
        if (await from.fill()) continue;
        if (from.size === 0) return undefined;
        throw new Http1Error("early-end");
      }
      this.#host.moved();
      return readResponseHead(from.bytes, from.start, end, head.method);
    } catch (error) {
      throw error instanceof Http1Error ? this.#ofServer(error) : error;
    }
  }

  async #relayAnswerBody(head: RequestHead, answer: ResponseHead): Promise<Http1End | undefined> {
    const from = this.#fromServer!, client = this.#client;
    this.#host.answered(head, answer, false);
    const reader = new BodyReader(answer.body, answer.length);
    let isHead = true;
    for (;;) {
      let seen;
      try {
        seen = reader.look(from.bytes, isHead ? answer.end : from.start, from.end);
      } catch (error) {
        throw error instanceof Http1Error ? this.#ofServer(error) : error;
      }
      const { read, passed } = seen;
      if (passed > from.start) await writeAll(client, from.bytes.subarray(from.start, passed));
      if (reader.tail.length > 0) await writeAll(client, reader.tail);
      isHead = false;
      from.use(read);
      this.#host.moved();
      if (reader.done) break;
      if (from.size === 0 && !await from.fill()) {
        if (answer.body === "until-close") break;
        throw this.#faultOfServer("early-end");
      }
    }
    if (from.size > 0) throw this.#faultOfServer("unasked-answer");
    return !answer.keepsAlive ? "closed-by-answer" : head.keepsAlive ? undefined : "closed-by-request";
  }

  async #passAnswer(end: number): Promise<void> {
    const from = this.#fromServer!;
    await writeAll(this.#client, from.bytes.subarray(from.start, end));
    from.use(end);
  }

  #faultOfServer(code: Http1Error["code"]): Http1Error {
    return this.#ofServer(new Http1Error(code));
  }

  #ofServer(error: Http1Error): Http1Error {
    this.#side = "server";
    return error;
  }

  /** Answers what was wrong with a request where the client can read it, and tells. */
  async #giveUp(error: Http1Error): Promise<Http1End> {
    this.#host.fault(error, this.#side);
    const bytes = faultAnswer(error);
    if (this.#side === "client" && bytes.length > 0) {
      try {
        await writeAll(this.#client, bytes);
        await this.#finish(error.code);
      } catch {
        // It is gone.
      }
    }
    return error.code;
  }
}

const CR = 13, LF = 10, PREFACE_BYTES = 16;
