/**
 * The questions of one client to one server, by TCP or by UDP: judged, passed on under an id that nobody can guess, and their answers passed back as the
 * server said them once their addresses are in force.
 *
 *     question ─▶ readable? ─▶ judge ─▶ id of our own ─▶ server ─▶ the same question? ─▶ addresses in force ─▶ the client's id, client
 *         └ FORMERR     └ REFUSED  └ SERVFAIL: too many                   └ dropped             └ SERVFAIL after 2 s
 *
 * @module
 */
import type { Init } from "@weir/proto";
import type { DnsRecord, Handle, L7Record } from "@weir/proto/l7";
import type { ConnectionJudge, ConnectionVerdict, SideVerdict } from "../connection_judge.ts";
import { denialText } from "../denial_text.ts";
import type { DnsShared, Pending } from "./dns_shared.ts";
import { FLOW_QUESTIONS_MAX, RECORDED_MAX } from "./limits.ts";
import { localAnswer } from "./local_answer.ts";
import {
  type DnsAnswer,
  type DnsQuery,
  type DnsQuestion,
  HEADER_BYTES,
  idOf,
  isAnswer,
  isAnswerTo,
  isTransfer,
  opcodeOf,
  readAnswer,
  readQuery,
} from "./message.ts";
import { DnsFormError } from "./name.ts";
import * as dns from "./types.ts";

/** Whose questions they are, and where messages go. */
export interface DnsClient {
  readonly handle: Handle;
  readonly judge: ConnectionJudge;
  counted(verdict: ConnectionVerdict["verdict"]): void;
  record(record: Init<L7Record>): void;
  /** A message that could not be read: for counters and records. */
  fault(code: string, reason: string): void;
  /** Bytes of the longest message that reaches the server; absent: any. */
  readonly questionBytesMax?: number;
  toServer(message: Uint8Array): void;
  toClient(message: Uint8Array): void;
}

interface Asked extends Pending {
  readonly clientId: number;
  readonly query: DnsQuery;
  /** The message as it was passed on. */
  readonly passed: Uint8Array;
  readonly sides: readonly SideVerdict[];
  askedMs: number;
}

/** Questions of one client to one server. */
export class DnsFlow {
  readonly #pending = new Map<number, Asked>();
  #held = 0;
  #ended = false;
  readonly #client: DnsClient;
  readonly #shared: DnsShared;
  readonly #endpoint: number;

  constructor(client: DnsClient, shared: DnsShared) {
    this.#client = client;
    this.#shared = shared;
    this.#endpoint = client.handle.egress?.endpoint ?? 0;
  }

  /** Questions whose answers are to come, or are held. */
  get questions(): number {
    return this.#pending.size + this.#held;
  }

  /** Answers that are held until their addresses are in force. */
  get held(): number {
    return this.#held;
  }

  /** A whole message of the client; it may be used again afterwards. @returns false for one that is no question at all */
  fromClient(message: Uint8Array): boolean {
    if (this.#ended) return true;
    if (message.length < HEADER_BYTES || isAnswer(message)) {
      this.#client.fault("not-readable", "a message that is no question");
      return false;
    }
    if (opcodeOf(message) !== 0) {
      this.#client.fault(
        "dns-opcode",
        `a message of opcode ${opcodeOf(message)}, want a question for a name`,
      );
      this.#answer(message, dns.NOTIMP, 0);
      return true;
    }
    try {
      this.#ask(message, readQuery(message));
    } catch (error) {
      if (!(error instanceof DnsFormError)) throw error;
      this.#client.fault("not-readable", `a question that cannot be read: ${error.message}`);
      this.#answer(message, dns.FORMERR, 0);
    }
    return true;
  }

  #ask(message: Uint8Array, query: DnsQuery): void {
    const { judge } = this.#client, { question } = query;
    const { verdict, sides, why } = judge.judge({ kind: "DNS", name: question.name });
    this.#client.counted(verdict);
    if (verdict !== "allowed") return this.#deny(message, query, sides, why);
    if (message.length > (this.#client.questionBytesMax ?? message.length)) {
      const reason = `a question of ${message.length} bytes by UDP: it is to be asked by TCP`;
      this.#record("REQUEST", sides, question, {}, { verdict: "ERROR", reason });
      const { end: questionEnd } = question;
      return this.#client.toClient(
        localAnswer(message, { rcode: dns.NOERROR, questionEnd, isTruncated: true }),
      );
    }
    if (this.#pending.size >= FLOW_QUESTIONS_MAX || !this.#shared.begin(this.#endpoint)) {
      this.#record("REQUEST", sides, question, {}, {
        verdict: "ERROR",
        reason: "too many questions at once",
      });
      return this.#answer(message, dns.SERVFAIL, question.end);
    }
    this.#record("REQUEST", sides, question, {});
    const id = this.#freeId(), passed = withId(message, id);
    const asked: Asked = { flow: this, id, clientId: query.id, query, passed, sides, sinceMs: 0, askedMs: 0 };
    this.#pending.set(id, asked);
    this.#shared.waits(asked);
    asked.askedMs = asked.sinceMs;
    this.#client.toServer(passed);
  }

  /** "policy-denies": no rule lets this connection be any more. "unknown-policy": it is not known what to judge by. */
  #deny(message: Uint8Array, query: DnsQuery, sides: readonly SideVerdict[], why: string): void {
    const { question, hasEdns } = query, text = denialText(sides, question.name);
    if (why === "unknown-policy") {
      const reason = "the proxy has no policy of this endpoint yet";
      this.#client.fault(why, reason);
      return this.#answer(message, dns.SERVFAIL, question.end, hasEdns ? dns.EDE_OTHER : undefined, reason);
    }
    this.#record("REQUEST", sides, question, {}, { reason: text });
    const [rcode, code] = this.#shared.denial === "nxdomain"
      ? [dns.NXDOMAIN, dns.EDE_BLOCKED]
      : [dns.REFUSED, dns.EDE_PROHIBITED];
    this.#answer(message, rcode, question.end, hasEdns ? code : undefined, text);
  }

  #answer(message: Uint8Array, rcode: number, questionEnd: number, extended?: number, text = ""): void {
    this.#client.toClient(localAnswer(message, {
      rcode,
      questionEnd,
      extended: extended === undefined ? undefined : { code: extended, text },
    }));
  }

  /** A whole message of the server; it may be used again afterwards. */
  fromServer(message: Uint8Array): void {
    if (this.#ended) return;
    if (message.length < HEADER_BYTES || !isAnswer(message)) return this.#shared.dropped("no-answer");
    const asked = this.#pending.get(idOf(message));
    if (asked === undefined) return this.#shared.dropped("nobody-asked");
    if (!isAnswerTo(message, asked.passed, asked.query.question.end)) {
      return this.#shared.dropped("another-question");
    }
    const isPart = isTransfer(asked.query.question.type);
    if (isPart) this.#shared.waits(asked);
    else this.#forget(asked);
    let answer: DnsAnswer;
    try {
      answer = readAnswer(message);
    } catch (error) {
      if (!(error instanceof DnsFormError)) throw error;
      if (!isPart) this.#finish();
      return this.#failed(asked, `an answer that cannot be read: ${error.message}`);
    }
    const restored = withId(message, asked.clientId);
    if (isPart) return this.#pass(asked, answer, restored);
    this.#release(asked, answer, restored);
  }

  /** Passes an answer on once its addresses are in force. */
  #release(asked: Asked, answer: DnsAnswer, message: Uint8Array): void {
    const { learner } = this.#shared;
    const { name } = asked.query.question, { addresses, ttlS } = answer;
    const learned = { endpoint: this.#endpoint, name, addresses, ttlS };
    // Of names that no rule can name nobody wants to know.
    const counts = answer.rcode === dns.NOERROR && addresses.length > 0 && /^[-a-z0-9_.]+$/.test(name);
    if (learner === undefined || this.#endpoint === 0 || !counts || learner.isKnown(learned)) {
      this.#finish();
      return this.#pass(asked, answer, message);
    }
    this.#held++;
    void learner.learn(learned).then((mayPass) => {
      this.#held--;
      this.#finish();
      if (this.#ended) return;
      if (mayPass) this.#pass(asked, answer, message);
      else this.#failed(asked, "the answer's addresses did not come in force in time");
    });
  }

  #pass({ sides, query: { question }, askedMs }: Asked, answer: DnsAnswer, message: Uint8Array): void {
    this.#record("RESPONSE", sides, question, answer, {
      latencyNs: Math.round((this.#shared.clock.monotonicMs() - askedMs) * 1e6),
    });
    this.#client.toClient(message);
  }

  #failed({ passed, clientId, sides, query: { question, hasEdns } }: Asked, reason: string): void {
    this.#record("RESPONSE", sides, question, { rcode: dns.SERVFAIL }, { verdict: "ERROR", reason });
    const code = hasEdns ? dns.EDE_OTHER : undefined;
    this.#answer(withId(passed, clientId), dns.SERVFAIL, question.end, code, reason);
  }

  /** The server has not answered a question; neither is the client, which may ask again. */
  expire(id: number): void {
    const asked = this.#pending.get(id);
    if (asked === undefined) return;
    this.#forget(asked);
    this.#finish();
    const { sides, query: { question } } = asked;
    if (isTransfer(question.type)) return;
    this.#record("RESPONSE", sides, question, { rcode: dns.SERVFAIL }, {
      verdict: "ERROR",
      reason: "the server does not answer",
    });
  }

  /** Gives back what is under way. */
  end(): void {
    this.#ended = true;
    for (const asked of [...this.#pending.values()]) {
      this.#forget(asked);
      this.#finish();
    }
  }

  #forget(asked: Asked): void {
    this.#pending.delete(asked.id);
    this.#shared.waitsNoMore(asked);
  }

  #finish(): void {
    this.#shared.finish(this.#endpoint);
  }

  #freeId(): number {
    for (;;) {
      const id = randomId();
      if (!this.#pending.has(id)) return id;
    }
  }

  /** One record for each end whose rules were asked. */
  #record(
    type: "REQUEST" | "RESPONSE",
    sides: readonly SideVerdict[],
    { name, type: qtype }: DnsQuestion,
    answer: Partial<DnsAnswer>,
    more: Init<L7Record> = {},
  ): void {
    const record: Init<DnsRecord> = {
      query: name,
      qtypes: [dns.typeText(qtype)],
      rcode: answer.rcode ?? dns.NOERROR,
      rrtypes: answer.types?.slice(0, RECORDED_MAX) ?? [],
      ips: answer.addresses?.slice(0, RECORDED_MAX) ?? [],
      cnames: answer.aliases?.slice(0, RECORDED_MAX) ?? [],
      ttl: answer.ttlS ?? 0,
    };
    for (const { side, allowed, cookie } of sides) {
      const verdict = allowed ? "FORWARDED" : "DENIED";
      this.#client.record({ direction: side, type, verdict, cookie, dns: record, ...more });
    }
  }
}

const randomIds = new Uint16Array(1024);
let randomAt = randomIds.length;

function randomId(): number {
  if (randomAt === randomIds.length) {
    crypto.getRandomValues(randomIds);
    randomAt = 0;
  }
  return randomIds[randomAt++];
}

/** A copy with another id. */
function withId(message: Uint8Array, id: number): Uint8Array {
  const copy = message.slice();
  copy[0] = id >> 8;
  copy[1] = id & 0xff;
  return copy;
}
