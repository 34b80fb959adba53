/**
 * The streams of one connection: what each side's frames do to them, and what goes on to the other side.
 * @module
 */
import type { Waiting } from "../http1/connection.ts";
import { FloodGuard } from "./flood_guard.ts";
import { forwardedFields } from "./forwarded_fields.ts";
import { FLAG, FRAME, PREFACE, SETTING, WINDOW_MAX } from "./frame.ts";
import type { FrameHandler } from "./frame_reader.ts";
import type { HeaderList } from "./header_field.ts";
import type { Http2Host } from "./host.ts";
import { H2_ERROR, Http2Error } from "./http2_error.ts";
import { HTTP2_LIMITS } from "./limits.ts";
import { localAnswer } from "./local_answer.ts";
import { readAnswer, readRequest, readTrailer } from "./message_fields.ts";
import { pass, resume } from "./relay.ts";
import { type Side, Way } from "./side.ts";
import { grpcStatusOf, Stream } from "./stream.ts";

/** What the connection does for its streams. */
export interface ConnectionActions {
  /** Connects to the server: called once. */
  connect(): void;
  /** Ends the connection. */
  close(why: string): void;
}

const NOTHING = new Uint8Array(0);

/** All streams of a connection. */
export class Exchanges {
  readonly #streams = new Map<number, Stream>();
  /** Streams of which something is held. */
  readonly #holding = new Set<Stream>();
  /** The last stream that the client opened, and the last that the server has heard of. */
  #last = 0;
  #lastForwarded = 0;
  /** The last stream that the server takes. */
  #lastTaken = WINDOW_MAX;
  /** Streams at once that the server takes, with our own limit. */
  #concurrent: number = HTTP2_LIMITS.streamCount;
  #isGoingAway = false;
  readonly #guards: Readonly<Record<"client" | "server", FloodGuard>>;

  constructor(
    readonly host: Http2Host,
    readonly client: Side,
    readonly server: Side,
    readonly actions: ConnectionActions,
  ) {
    const now = () => host.nowMs();
    this.#guards = { client: new FloodGuard(now), server: new FloodGuard(now) };
  }

  /** What the connection waits for: its limit of time. */
  get waitsFor(): Waiting {
    if (this.#streams.size === 0) return "idle";
    for (const stream of this.#streams.values()) if (!stream.isAnswered) return "stream";
    // Both sides may have nothing to say for long: a call that waits for news.
    return "spliced";
  }

  /** Streams that are open. */
  get size(): number {
    return this.#streams.size;
  }

  /** Who is told of a side's frames. */
  handlerOf(name: "client" | "server"): FrameHandler {
    const from = this[name], to = name === "client" ? this.server : this.client, guard = this.#guards[name];
    return {
      headers: (id, list, endStream) =>
        this.#guardStream(
          name,
          () =>
            name === "client"
              ? this.#fieldsOfClient(id, list, endStream)
              : this.#fieldsOfServer(id, list, endStream),
        ),
      data: (id, bytes, flowBytes, endStream) => {
        from.spend(flowBytes);
        this.#guardStream(name, () => this.#data(from, to, id, bytes, flowBytes, endStream));
        from.grant(to);
      },
      reset: (id, errorCode) => this.#resetBy(from, id, errorCode),
      settings: (settings) => this.#settings(from, settings),
      settingsAck: () => this.#grow(from, from.answered()),
      ping: (payload) => {
        guard.control();
        from.out.frame(FRAME.PING, FLAG.ACK, 0, payload);
      },
      goaway: (last, errorCode) => this.#goawayBy(from, last, errorCode),
      window: (id, increment) => this.#window(from, to, id, increment),
      nothing: () => guard.control(),
    };
  }

  /** The server is no more: requests without an answer get one, the others end. */
  fail(text: string): void {
    for (const stream of [...this.#streams.values()]) {
      stream.isForwarded = false;
      if (stream.isAnswered) this.#reset(stream, H2_ERROR.INTERNAL_ERROR);
      else this.#answer(stream, 503, text);
    }
  }

  /** Tells the client that no more is taken. */
  goaway(errorCode: number, text: string): void {
    this.client.out.goaway(this.#last, errorCode, text.replace(/[^ -~]/g, "?"));
    this.#isGoingAway = true;
  }

  /** What is wrong with one stream ends that one; the rest goes on. */
  #guardStream(name: "client" | "server", act: () => void): void {
    try {
      act();
    } catch (error) {
      if (!(error instanceof Http2Error) || error.stream === 0) throw error;
      this.host.fault(error, name);
      const stream = this.#streams.get(error.stream);
      if (name === "client") this.#guards.client.givenUp(stream?.openedMs ?? this.host.nowMs());
      if (stream !== undefined) this.#reset(stream, error.errorCode);
      else this.client.out.number(FRAME.RST_STREAM, error.stream, error.errorCode);
    }
  }

  #fieldsOfClient(id: number, list: HeaderList, endStream: boolean): void {
    const stream = this.#streams.get(id);
    if (stream !== undefined) {
      return this.#trailer(this.client, this.server, stream, stream.up, list, endStream);
    }
    // Behind the end of a stream that we ended: the client may not have known.
    if (id <= this.#last && id % 2 === 1) return this.#guards.client.control();
    if (id % 2 === 0) throw new Http2Error("bad-stream-id", `a request on stream ${id}`);
    this.#last = id;
    const guard = this.#guards.client, openedMs = this.host.nowMs();
    guard.opened();
    if (this.#isGoingAway || id > this.#lastTaken || this.#streams.size >= this.#concurrent) {
      guard.control();
      return this.client.out.number(FRAME.RST_STREAM, id, H2_ERROR.REFUSED_STREAM);
    }
    guard.useful();
    const up = new Way(this.client.streamCredit, this.server.streamWindow);
    const down = new Way(this.server.streamCredit, this.client.streamWindow);
    up.isEnded = endStream;
    if (list.isTooLarge) {
      this.host.fault(new Http2Error("fields-too-large"), "client");
      return this.#open(new Stream(id, openedMs, { method: "", isGrpc: false }, undefined, up, down), 431);
    }
    const request = readRequest(list, id);
    up.left = request.length;
    if (endStream && (up.left ?? 0) > 0) throw new Http2Error("bad-length", `${up.left}, and no body`, id);
    if (request.target.path.length > HTTP2_LIMITS.path) {
      this.host.fault(new Http2Error("path-too-long", request.target.path), "client");
      return this.#open(new Stream(id, openedMs, request, undefined, up, down), 414);
    }
    const exchange = this.host.judge(request), opened = new Stream(id, openedMs, request, exchange, up, down);
    if (exchange.verdict === "closed") {
      this.goaway(H2_ERROR.REFUSED_STREAM, "no rule is for this connection any more");
      return this.actions.close(exchange.why);
    }
    if (exchange.verdict === "denied") return this.#open(opened, 403, exchange.why);
    if (request.target.redirect !== undefined) return this.#open(opened, 307, request.target.redirect);
    this.#streams.set(id, opened);
    if (!this.server.isOpen) this.#openServer();
    this.#lastForwarded = id;
    opened.isForwarded = true;
    up.isDone = endStream;
    const { server } = this;
    server.out.block(id, server.encoder.encode(forwardedFields(request, exchange.changes)), endStream);
  }

  /** What the server hears first. It goes out once there is a connection, with what comes until then. */
  #openServer(): void {
    const { server, client } = this;
    server.isOpen = true;
    server.out.append(PREFACE);
    this.#grow(
      server,
      server.announce([
        [SETTING.ENABLE_PUSH, 0],
        [SETTING.INITIAL_WINDOW_SIZE, client.streamWindow],
        [SETTING.MAX_HEADER_LIST_SIZE, HTTP2_LIMITS.headerList],
      ]),
    );
    server.grant(client);
    this.actions.connect();
  }

  /** A stream that we answer ourselves. */
  #open(stream: Stream, status: 403 | 307 | 414 | 431, detail = ""): void {
    this.#streams.set(stream.id, stream);
    this.#answer(stream, status, detail);
  }

  #answer(stream: Stream, status: 403 | 307 | 414 | 431 | 503, detail: string): void {
    const { id, down } = stream, answer = localAnswer(stream.request, status, detail), { client } = this;
    stream.status = answer.status;
    stream.answerFields = answer.fields;
    stream.isAnswered = true;
    stream.record(answer.grpcStatus);
    const isWhole = answer.body.length === 0;
    client.out.block(id, client.encoder.encode(answer.fields), isWhole);
    down.isEnded = true;
    down.isDone = isWhole;
    if (!isWhole && !pass(this.server, client, stream, down, answer.body)) this.#holding.add(stream);
    this.#settle(stream);
  }

  #fieldsOfServer(id: number, list: HeaderList, endStream: boolean): void {
    const stream = this.#streams.get(id);
    if (stream === undefined || !stream.isForwarded) return this.#unknownOfServer(id);
    const { down, request } = stream, { client, server } = this;
    if (stream.isAnswered) return this.#trailer(server, client, stream, down, list, endStream);
    const answer = readAnswer(list, id);
    if (answer.status < 200) {
      if (endStream) {
        throw new Http2Error("bad-answer-fields", `${answer.status} without an answer behind it`, id);
      }
      if (++stream.interims > HTTP2_LIMITS.interimCount) throw new Http2Error("answer-too-many", "", id);
      return client.out.block(id, client.encoder.encode(answer.fields), false);
    }
    this.#guards.client.useful();
    this.#guards.server.useful();
    stream.isAnswered = true;
    stream.status = answer.status;
    stream.answerFields = answer.fields;
    const hasBody = request.method !== "HEAD" && answer.status !== 204 && answer.status !== 304;
    down.left = hasBody ? answer.length : 0;
    if (endStream && (down.left ?? 0) > 0) {
      throw new Http2Error("bad-length", `${down.left}, and no body`, id);
    }
    down.isEnded = down.isDone = endStream;
    if (endStream || !request.isGrpc) stream.record(grpcStatusOf(answer.fields));
    client.out.block(id, client.encoder.encode(answer.fields), endStream);
    this.#settle(stream);
  }

  #trailer(from: Side, to: Side, stream: Stream, way: Way, list: HeaderList, endStream: boolean): void {
    const { id } = stream;
    if (way.isEnded) throw new Http2Error("stream-closed", "more fields", id);
    if (!endStream) throw new Http2Error("bad-trailer", "more must follow them", id);
    if ((way.left ?? 0) > 0) throw new Http2Error("bad-length", `${way.left} bytes more to come`, id);
    way.trailer = readTrailer(list, id);
    way.isEnded = true;
    if (from === this.server) {
      stream.answerFields = [...stream.answerFields, ...way.trailer];
      stream.record(grpcStatusOf(way.trailer));
    } else if (!stream.isForwarded) return this.#settle(stream);
    if (!pass(from, to, stream, way, NOTHING)) this.#holding.add(stream);
    this.#settle(stream);
  }

  #data(from: Side, to: Side, id: number, bytes: Uint8Array, flowBytes: number, endStream: boolean): void {
    const stream = this.#streams.get(id), isOfClient = from === this.client;
    if (bytes.length === 0 && !endStream) this.#guards[from.name].control();
    else for (const guard of Object.values(this.#guards)) guard.useful();
    if (stream === undefined) {
      if (!isOfClient) return this.#unknownOfServer(id);
      if (id > this.#last || id % 2 === 0) {
        throw new Http2Error("bad-stream-id", `DATA on stream ${id}, which is idle`);
      }
      return;
    }
    const way = isOfClient ? stream.up : stream.down;
    if (!isOfClient && !stream.isForwarded) return;
    if (way.isEnded) throw new Http2Error("stream-closed", "DATA", id);
    if (!isOfClient && !stream.isAnswered) {
      throw new Http2Error("bad-answer-fields", "DATA in front of them", id);
    }
    way.credit -= flowBytes;
    if (way.credit < 0) throw new Http2Error("window-exceeded", `${-way.credit} bytes`, id);
    if (way.left !== undefined) {
      way.left -= bytes.length;
      if (way.left < 0 || (endStream && way.left > 0)) {
        throw new Http2Error("bad-length", way.left < 0 ? "more" : `${way.left} bytes less`, id);
      }
    }
    way.isEnded = endStream;
    if (isOfClient && !stream.isForwarded) {
      stream.discarded += flowBytes;
      if (stream.discarded <= HTTP2_LIMITS.discarded) from.grantStream(id, way);
      return this.#settle(stream);
    }
    if (endStream && !isOfClient) stream.record();
    if (!pass(from, to, stream, way, bytes)) this.#holding.add(stream);
    from.grantStream(id, way);
    this.#settle(stream);
  }

  /** Looks at all streams of which something is held. */
  #resumeAll(): void {
    for (const stream of [...this.#holding]) {
      resume(this.client, this.server, stream, stream.up);
      resume(this.server, this.client, stream, stream.down);
      if (stream.up.heldBytes + stream.down.heldBytes === 0) this.#holding.delete(stream);
      this.#settle(stream);
    }
  }

  #window(from: Side, to: Side, id: number, increment: number): void {
    if (id === 0) {
      from.widen(increment);
      this.#resumeAll();
      return to.grant(from);
    }
    const stream = this.#streams.get(id);
    if (stream === undefined) return this.#idleCheck(from, id, "WINDOW_UPDATE");
    const way = from === this.client ? stream.down : stream.up;
    way.window += increment;
    this.#guardStream(from.name, () => {
      if (way.window > WINDOW_MAX) throw new Http2Error("window-overflow", "", id);
    });
    if (!this.#streams.has(id)) return;
    if (this.#holding.has(stream)) this.#resumeAll();
    if (stream.isForwarded) to.grantStream(id, way);
  }

  #settings(from: Side, settings: ReadonlyMap<number, number>): void {
    this.#guards[from.name].control();
    from.out.frame(FRAME.SETTINGS, FLAG.ACK, 0, NOTHING);
    const window = settings.get(SETTING.INITIAL_WINDOW_SIZE),
      to = from === this.client ? this.server : this.client;
    const concurrent = settings.get(SETTING.MAX_CONCURRENT_STREAMS);
    let isNew = false;
    if (from === this.server) {
      if (settings.get(SETTING.ENABLE_PUSH) === 1) {
        throw new Http2Error("bad-settings", "ENABLE_PUSH of a server");
      }
      const before = this.#concurrent;
      if (concurrent !== undefined) this.#concurrent = Math.min(concurrent, HTTP2_LIMITS.streamCount);
      isNew = this.#concurrent !== before;
    }
    if (window !== undefined && window !== from.streamWindow) {
      for (const stream of this.#streams.values()) {
        const way = from === this.client ? stream.down : stream.up;
        way.window += window - from.streamWindow;
        if (way.window > WINDOW_MAX) throw new Http2Error("window-overflow", "by SETTINGS");
      }
      from.streamWindow = window;
      isNew = true;
      this.#resumeAll();
    }
    if (!isNew || !to.isOpen) return;
    const told: [number, number][] = [[SETTING.INITIAL_WINDOW_SIZE, from.streamWindow]];
    if (from === this.server) told.push([SETTING.MAX_CONCURRENT_STREAMS, this.#concurrent]);
    this.#grow(to, to.announce(told));
  }

  /** The credit of all streams of a side changed by its settings. */
  #grow(side: Side, by: number): void {
    if (by === 0) return;
    for (const stream of this.#streams.values()) {
      (side === this.client ? stream.up : stream.down).credit += by;
    }
  }

  #resetBy(from: Side, id: number, errorCode: number): void {
    const stream = this.#streams.get(id);
    if (stream === undefined) return this.#idleCheck(from, id, "RST_STREAM");
    if (from === this.client) {
      if (stream.isForwarded) this.server.out.number(FRAME.RST_STREAM, id, errorCode);
      this.#close(stream);
      if (!stream.isAnswered) this.#guards.client.givenUp(stream.openedMs);
      return;
    }
    if (!stream.isForwarded) return;
    if (errorCode === H2_ERROR.NO_ERROR && stream.down.isEnded && !stream.down.isDone) {
      // It wants no more of the request; the answer is whole, and goes first.
      stream.isForwarded = false;
      return;
    }
    this.client.out.number(FRAME.RST_STREAM, id, errorCode);
    this.#close(stream);
  }

  #goawayBy(from: Side, last: number, errorCode: number): void {
    this.#guards[from.name].control();
    // A client that goes away opens no more streams, and closes when it has its answers.
    if (from === this.client) return;
    this.#lastTaken = Math.min(this.#lastTaken, last);
    this.client.out.goaway(this.#lastTaken, errorCode, "");
    for (const stream of [...this.#streams.values()]) {
      if (stream.id <= last || !stream.isForwarded) continue;
      this.client.out.number(FRAME.RST_STREAM, stream.id, H2_ERROR.REFUSED_STREAM);
      this.#close(stream);
    }
  }

  /** Ends a stream on both sides. */
  #reset(stream: Stream, errorCode: number): void {
    this.client.out.number(FRAME.RST_STREAM, stream.id, errorCode);
    if (stream.isForwarded) this.server.out.number(FRAME.RST_STREAM, stream.id, H2_ERROR.CANCEL);
    this.#close(stream);
  }

  /** Closes a stream of which both directions are through. Of one that we answered a short body may still come; who sends more is told to stop. */
  #settle(stream: Stream): void {
    if (!stream.down.isDone || !this.#streams.has(stream.id)) return;
    if (stream.isForwarded && !stream.up.isDone) return;
    if (!stream.isForwarded && !stream.up.isEnded) {
      const more = Math.max(stream.discarded, stream.up.left ?? 0);
      if (!stream.request.isGrpc && more <= HTTP2_LIMITS.discarded) return;
      this.client.out.number(FRAME.RST_STREAM, stream.id, H2_ERROR.NO_ERROR);
    }
    this.#close(stream);
  }

  #close(stream: Stream): void {
    stream.record();
    this.#streams.delete(stream.id);
    this.#holding.delete(stream);
    this.client.letGo(stream.up.heldBytes);
    this.server.letGo(stream.down.heldBytes);
    stream.up.heldBytes = stream.down.heldBytes = 0;
    stream.up.held = stream.down.held = [];
    this.client.grant(this.server);
    this.server.grant(this.client);
  }

  #unknownOfServer(id: number): void {
    if (id > this.#lastForwarded || id % 2 === 0) throw new Http2Error("unasked-answer", `stream ${id}`);
  }

  /** A frame for a stream that is over says nothing; for one that never was it is a fault. */
  #idleCheck(from: Side, id: number, kind: string): void {
    const last = from === this.client ? this.#last : this.#lastForwarded;
    if (id > last || id % 2 === 0) {
      throw new Http2Error("bad-stream-id", `${kind} for stream ${id}, which is idle`);
    }
    this.#guards[from.name].control();
  }
}
