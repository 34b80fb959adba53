/**
 * One connection of Kafka's protocol: judges requests, forwards bytes as they are, answers what is denied in its place among the
 * broker's answers, for clients expect them in the order of their requests. It does no I/O.
 * @module
 */

import { HeldBytes, HeldBytesError } from "../held_bytes.ts";
import { pushBytes, type Step } from "../step.ts";
import { KafkaFormError, KafkaReader, type KafkaStruct } from "./codec.ts";
import { denialCode, encodeDenial, encodeResponse, KafkaErrorCode } from "./denial.ts";
import {
  ANSWERS_WAITING_BYTES_MAX,
  CHANGED_BYTES_MAX,
  FETCHED_TOPICS_MAX,
  FRAME_BYTES_MAX,
  type KafkaShared,
  PENDING_MAX,
  PRODUCE_HELD_BYTES,
  REQUEST_ELEMENTS_MAX,
  REQUEST_HELD_BYTES_MAX,
} from "./limits.ts";
import {
  ApiKey,
  kafkaApi,
  type KafkaHeader,
  onlyTopicOf,
  readKafkaBody,
  readKafkaHeader,
  topicsOf,
} from "./request.ts";
import { cappedVersions, type MetadataChange, metadataRequest, metadataResponse } from "./response_change.ts";
import type { KafkaEvent, KafkaJudge, KafkaQuestion, KafkaVerdict } from "./verdict.ts";

/** What a connection is given. */
export interface KafkaConnectionOptions {
  readonly shared: KafkaShared;
  /** Whose share of what is held it takes. */
  readonly client?: string;
  readonly judge: KafkaJudge;
  readonly now: () => number;
  readonly record: (event: KafkaEvent) => void;
}

/** A request whose answer has still to be sent to the client. */
interface Pending {
  readonly header: KafkaHeader;
  readonly sentMs: number;
  readonly question: KafkaQuestion;
  readonly verdict: KafkaVerdict | null;
  /** Our own answer; null: the broker's is to come. */
  readonly local: Uint8Array | null;
  /** How the broker's answer is changed; null: it is not. */
  readonly change: ((frame: Uint8Array) => Uint8Array) | null;
}

const LENGTH_BYTES = 4;
/** Length and correlation id of an answer. */
const ANSWER_HEAD_BYTES = 8;
/** So many bytes of a large Produce, and its topic is among them: tried before anything is held. */
const PRODUCE_START_BYTES = 1024;

/** A connection. */
export class KafkaConnection {
  readonly #options: KafkaConnectionOptions;
  readonly #request: HeldBytes;
  readonly #response: HeldBytes;
  readonly #pending: Pending[] = [];
  #toServer: Uint8Array[] = [];
  #toClient: Uint8Array[] = [];
  /** Bytes of a request, and of an answer, that pass as they come. */
  #requestRest = 0;
  #responseRest = 0;
  /** Of our answers that wait for their turn. */
  #waitingBytes = 0;
  /** Topics that were fetched, and whether the broker remembers some of them. */
  readonly #fetched = new Set<string>();
  #hasSession = false;
  #closed: string | null = null;

  constructor(options: KafkaConnectionOptions) {
    this.#options = options;
    const budget = options.shared.held.of(options.client ?? "");
    this.#request = new HeldBytes(budget, REQUEST_HELD_BYTES_MAX + LENGTH_BYTES);
    this.#response = new HeldBytes(budget, CHANGED_BYTES_MAX + LENGTH_BYTES);
  }

  get closed(): string | null {
    return this.#closed;
  }
  get pending(): number {
    return this.#pending.length;
  }
  /** What it waits for: the rest of a request (`head`), answers (`stream`), the next request (`idle`). */
  get waitsFor(): "head" | "stream" | "idle" {
    if (this.#request.length > 0) return "head";
    return this.#pending.length > 0 || this.#requestRest > 0 ? "stream" : "idle";
  }

  /** Bytes that the client sent. */
  fromClient(bytes: Uint8Array): Step {
    return this.#run(() => {
      for (let at = 0; at < bytes.length && this.#closed === null;) at = this.#takeRequest(bytes, at);
    });
  }

  /** Bytes that the broker sent. */
  fromServer(bytes: Uint8Array): Step {
    return this.#run(() => {
      for (let at = 0; at < bytes.length && this.#closed === null;) at = this.#takeResponse(bytes, at);
    });
  }

  /** The connection has ended: what it held is given back. */
  end(): void {
    this.#closed ??= "it has ended";
    this.#request.take();
    this.#response.take();
  }

  #run(work: () => void): Step {
    if (this.#closed === null) {
      try {
        work();
      } catch (error) {
        if (!(error instanceof HeldBytesError || error instanceof KafkaFormError)) throw error;
        this.#closed ??= error.message;
      }
    }
    const step = { toServer: this.#toServer, toClient: this.#toClient, close: this.#closed };
    this.#toServer = [];
    this.#toClient = [];
    return step;
  }

  #takeRequest(bytes: Uint8Array, at: number): number {
    if (this.#requestRest > 0) {
      const end = Math.min(bytes.length, at + this.#requestRest);
      pushBytes(this.#toServer, bytes.subarray(at, end));
      this.#requestRest -= end - at;
      return end;
    }
    const held = this.#request;
    if (held.length === 0 && bytes.length - at >= LENGTH_BYTES) {
      const end = this.#takeInPlace(bytes, at);
      if (end > at) return end;
    }
    if (held.length < LENGTH_BYTES) {
      const end = Math.min(bytes.length, at + LENGTH_BYTES - held.length);
      held.append(bytes.subarray(at, end));
      if (held.length === LENGTH_BYTES) frameBytes(held.bytes, 0, "a request");
      return end;
    }
    const total = LENGTH_BYTES + frameBytes(held.bytes, 0, "a request");
    const streams = total > PRODUCE_HELD_BYTES && (held.length < 6 || isProduce(held.bytes, 0));
    const enough = streams && held.length < PRODUCE_HELD_BYTES ? PRODUCE_HELD_BYTES : total;
    const end = Math.min(bytes.length, at + enough - held.length);
    held.append(bytes.subarray(at, end));
    if (held.length === total) {
      this.#decide(held.take());
    } else if (streams && held.length === PRODUCE_HELD_BYTES && this.#passEarly(held.bytes)) {
      this.#requestRest = total - held.length;
      this.#toServer.push(held.take());
    } else if (total > REQUEST_HELD_BYTES_MAX && held.length >= PRODUCE_HELD_BYTES) {
      throw new KafkaFormError(
        `a request of ${total} bytes, at most ${REQUEST_HELD_BYTES_MAX} are held to be judged`,
      );
    }
    return end;
  }

  /** A request that is all there, or the start of a large Produce, is not copied. @returns its end; `at`: it has to be held */
  #takeInPlace(bytes: Uint8Array, at: number): number {
    const total = LENGTH_BYTES + frameBytes(bytes, at, "a request"), available = bytes.length - at;
    if (available >= total && total <= REQUEST_HELD_BYTES_MAX) {
      this.#decide(bytes.subarray(at, at + total));
      return at + total;
    }
    if (total <= PRODUCE_HELD_BYTES || available < PRODUCE_START_BYTES || !isProduce(bytes, at)) return at;
    const start = bytes.subarray(at, Math.min(bytes.length, at + total));
    if (!this.#passEarly(start)) return at;
    this.#requestRest = total - start.length;
    pushBytes(this.#toServer, start);
    return at + start.length;
  }

  /** A large Produce to one topic passes before all of it is here; false: all of it is needed. */
  #passEarly(start: Uint8Array): boolean {
    const reader = new KafkaReader(start);
    reader.at = LENGTH_BYTES;
    const header = readKafkaHeader(reader);
    if (header.api === undefined || header.apiKey !== ApiKey.PRODUCE) return false;
    const acks = reader.at;
    const topic = onlyTopicOf(header.form, reader);
    if (topic === undefined) return false;
    const question = questionOf(header, [topic]);
    const verdict = this.#options.judge(question);
    // The answer to one that is denied names each partition, which may be at its end.
    if (!verdict.allowed) return false;
    this.#forwarded(header, question, verdict, {
      answered: acksOf(header, new KafkaReader(start.subarray(acks))) !== 0,
    });
    return true;
  }

  #decide(frame: Uint8Array): void {
    const reader = new KafkaReader(frame, REQUEST_ELEMENTS_MAX);
    reader.at = LENGTH_BYTES;
    const header = readKafkaHeader(reader);
    if (header.api === undefined) return this.#unread(header);
    const body = readKafkaBody(header.api, header.form, reader);
    const topics = topicsOf(header.api, header.form, body);
    const question = questionOf(header, topics);
    const answered = header.apiKey !== ApiKey.PRODUCE || body.Acks !== 0;
    if (header.apiKey === ApiKey.METADATA) return this.#metadata(header, body, frame, question);
    const verdict = this.#options.judge(question);
    if (!verdict.allowed) return this.#deny(header, body, question, verdict, answered);
    if (header.apiKey === ApiKey.FETCH && !this.#fetches(header, body, question)) return;
    const change = header.apiKey === ApiKey.API_VERSIONS
      ? (answer: Uint8Array) => cappedVersions(header, answer)
      : null;
    this.#forwarded(header, question, verdict, { answered, change });
    pushBytes(this.#toServer, frame);
  }

  /**
   * A fetch session remembers topics at the broker: later requests name what changes alone. What it has must still be allowed, and
   * sessions of other connections are begun anew.
   * @returns false: it was answered, or the connection ends
   */
  #fetches(header: KafkaHeader, body: KafkaStruct, question: KafkaQuestion): boolean {
    for (const topic of question.topics ?? []) this.#fetched.add(topic);
    if (this.#fetched.size > FETCHED_TOPICS_MAX) {
      throw new KafkaFormError(`over ${FETCHED_TOPICS_MAX} topics are fetched on one connection`);
    }
    // Epochs: -1 no session, 0 a new one.
    if (header.version < 7 || (body.SessionEpoch as number) <= 0) {
      this.#hasSession ||= header.version >= 7 && body.SessionEpoch === 0;
      return true;
    }
    if (!this.#hasSession) {
      const response = { ErrorCode: KafkaErrorCode.FETCH_SESSION_ID_NOT_FOUND };
      this.#answer(header, question, encodeResponse(header, header.api!, response));
      return false;
    }
    const verdict = this.#options.judge({ ...question, topics: [...this.#fetched] });
    if (verdict.allowed) return true;
    this.#record("request", "denied", header, { ...question, topics: [...this.#fetched] }, verdict);
    this.#closed ??= verdict.closes || "fetch-session-denied";
    return false;
  }

  /** Topics that may not be seen are asked for by nobody, and in the answer they have the error. */
  #metadata(header: KafkaHeader, body: KafkaStruct, frame: Uint8Array, question: KafkaQuestion): void {
    const { judge } = this.#options;
    const sees = (topic: string) => judge({ ...question, topics: [topic] }).allowed;
    const asked = judge(question);
    const denied = question.topics!.filter((topic) => !sees(topic));
    // The kind of request itself.
    if (!asked.allowed && denied.length === 0) return this.#deny(header, body, question, asked, true);
    const base = denied.length === 0 ? asked : judge({ ...question, topics: undefined });
    if (!base.allowed) return this.#deny(header, body, question, asked, true);
    const change: MetadataChange = { denied, sees };
    if (denied.length > 0) {
      this.#record("request", "denied", header, question, asked, KafkaErrorCode.TOPIC_AUTHORIZATION_FAILED);
    }
    this.#forwarded(header, question, denied.length > 0 ? null : asked, {
      answered: true,
      change: (answer) => metadataResponse(header, answer, change),
    });
    this.#toServer.push(denied.length > 0 ? metadataRequest(header, body, denied) : frame);
  }

  #forwarded(
    header: KafkaHeader,
    question: KafkaQuestion,
    verdict: KafkaVerdict | null,
    { answered, change = null }: { answered: boolean; change?: Pending["change"] },
  ): void {
    if (answered) {
      this.#wait({ header, sentMs: this.#options.now(), question, verdict, local: null, change });
    }
    if (verdict !== null) this.#record("request", "forwarded", header, question, verdict);
  }

  #deny(
    header: KafkaHeader,
    body: KafkaStruct,
    question: KafkaQuestion,
    verdict: KafkaVerdict,
    answered: boolean,
  ): void {
    const code = denialCode(header.apiKey, question.topics);
    this.#record("request", "denied", header, question, verdict, code);
    if (verdict.closes !== "") this.#closed ??= verdict.closes;
    if (answered) this.#answer(header, question, encodeDenial(header, header.api!, body, code));
  }

  /** A version or kind that nobody was told to send. */
  #unread(header: KafkaHeader): void {
    const api = kafkaApi(header.apiKey);
    if (api === undefined || header.apiKey !== ApiKey.API_VERSIONS) {
      throw new KafkaFormError(
        `${api?.name ?? `request ${header.apiKey}`} of version ${header.version} is not read`,
      );
    }
    const [MinVersion, MaxVersion] = api.versions;
    const response = {
      ErrorCode: KafkaErrorCode.UNSUPPORTED_VERSION,
      ApiKeys: [{ ApiKey: api.key, MinVersion, MaxVersion }],
    };
    this.#answer(header, questionOf(header, undefined), encodeResponse(header, api, response, 0));
  }

  #answer(header: KafkaHeader, question: KafkaQuestion, local: Uint8Array): void {
    this.#wait({ header, sentMs: 0, question, verdict: null, local, change: null });
    this.#waitingBytes += local.length;
    this.#release();
    if (this.#waitingBytes > ANSWERS_WAITING_BYTES_MAX) {
      throw new KafkaFormError(`over ${ANSWERS_WAITING_BYTES_MAX} bytes of answers wait behind the broker's`);
    }
  }

  #wait(request: Pending): void {
    if (this.#pending.length >= PENDING_MAX) {
      throw new KafkaFormError(`${PENDING_MAX} requests wait for their answers`);
    }
    this.#pending.push(request);
  }

  /** Sends our answers whose turn it is. */
  #release(): void {
    if (this.#responseRest > 0) return;
    while (this.#pending.length > 0 && this.#pending[0].local !== null) {
      const local = this.#pending.shift()!.local!;
      this.#waitingBytes -= local.length;
      this.#toClient.push(local);
    }
  }

  #takeResponse(bytes: Uint8Array, at: number): number {
    if (this.#responseRest > 0) return this.#passResponse(bytes, at, this.#responseRest);
    const held = this.#response;
    if (held.length === 0 && bytes.length - at >= ANSWER_HEAD_BYTES) {
      const total = LENGTH_BYTES + this.#expect(bytes, at);
      if (this.#pending[0].change === null) {
        this.#done(this.#pending[0]);
        return this.#passResponse(bytes, at, total);
      }
    }
    if (held.length < ANSWER_HEAD_BYTES) {
      const end = Math.min(bytes.length, at + ANSWER_HEAD_BYTES - held.length);
      held.append(bytes.subarray(at, end));
      if (held.length < ANSWER_HEAD_BYTES) return end;
      at = end;
    }
    const total = LENGTH_BYTES + this.#expect(held.bytes, 0), first = this.#pending[0];
    if (first.change === null) {
      this.#done(first);
      const rest = total - held.length;
      this.#toClient.push(held.take());
      return this.#passResponse(bytes, at, rest);
    }
    const end = Math.min(bytes.length, at + total - held.length);
    held.append(bytes.subarray(at, end));
    if (held.length < total) return end;
    this.#done(first);
    this.#toClient.push(first.change(held.take()));
    this.#release();
    return end;
  }

  /** Forwards up to `rest` bytes of an answer. @returns where it stopped */
  #passResponse(bytes: Uint8Array, at: number, rest: number): number {
    const end = Math.min(bytes.length, at + rest);
    pushBytes(this.#toClient, bytes.subarray(at, end));
    this.#responseRest = rest - (end - at);
    this.#release();
    return end;
  }

  /** Reads an answer's first bytes. @returns bytes behind its length. Throws where it is not the answer whose turn it is */
  #expect(bytes: Uint8Array, at: number): number {
    const length = frameBytes(bytes, at, "an answer"), id = int32At(bytes, at + LENGTH_BYTES);
    const expected = this.#pending[0]?.header.correlationId;
    if (id === expected) return length;
    throw new KafkaFormError(
      `an answer to ${id}, expected ${expected === undefined ? "none" : `one to ${expected}`}`,
    );
  }

  #done({ header, question, verdict, sentMs }: Pending): void {
    this.#pending.shift();
    if (verdict !== null) {
      this.#record("response", "forwarded", header, question, verdict, 0, this.#options.now() - sentMs);
    }
  }

  #record(
    type: KafkaEvent["type"],
    verdict: KafkaEvent["verdict"],
    header: KafkaHeader,
    question: KafkaQuestion,
    { ends, text }: KafkaVerdict,
    errorCode = 0,
    latencyMs = 0,
  ): void {
    const reason = verdict === "forwarded" ? "" : text;
    this.#options.record({
      ...question,
      type,
      verdict,
      ends,
      correlationId: header.correlationId,
      errorCode,
      latencyMs,
      reason,
    });
  }
}

function questionOf(
  { apiKey, version, clientId }: KafkaHeader,
  topics: readonly string[] | undefined,
): KafkaQuestion {
  return { apiKey, apiVersion: version, clientId, topics };
}

function acksOf(header: KafkaHeader, body: KafkaReader): number {
  body.text(header.form.flexible);
  return body.int16();
}

function isProduce(bytes: Uint8Array, at: number): boolean {
  return bytes[at + 4] === 0 && bytes[at + 5] === ApiKey.PRODUCE;
}

function int32At(bytes: Uint8Array, at: number): number {
  return (bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3];
}

/** Bytes of the frame at `at` behind its length. */
function frameBytes(bytes: Uint8Array, at: number, what: string): number {
  if (bytes[at] === 0x16 && bytes[at + 1] === 0x03) {
    throw new KafkaFormError("TLS on a port with a Kafka rule");
  }
  const length = int32At(bytes, at);
  if (length < 4 || length > FRAME_BYTES_MAX) {
    throw new KafkaFormError(`${what} of ${length} bytes, wanted 4 to ${FRAME_BYTES_MAX}`);
  }
  return length;
}
