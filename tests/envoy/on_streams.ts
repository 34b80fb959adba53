/** A connection of HTTP/2 through our proxy with Envoy behind it as the server, and the same bytes to Envoy alone. @module */
import type { FieldChange } from "../../services/l7-proxy/http1/head_change.ts";
import { Http2Connection } from "../../services/l7-proxy/http2/connection.ts";
import type { RequestFields } from "../../services/l7-proxy/http2/message_fields.ts";
import { FRAME } from "../../services/l7-proxy/http2/frame.ts";
import { SeenHttp2Host, TestPeer } from "../../services/l7-proxy/http2/testing.ts";
import { Inflow } from "../../services/l7-proxy/socket.ts";
import { MemorySocket } from "../../services/l7-proxy/testing.ts";
import type { AskedSocket, EnvoyOracle } from "./oracle.ts";
import type { SeenRequest } from "./origin.ts";
import { shown, shownOf, utf8 } from "./reading.ts";
import type { Compared } from "./tally.ts";

const SERVED = 204;
/** Nothing more is expected after so long without an answer, and after less where all are there. */
const QUIET_MS = 200, ANSWERED_QUIET_MS = 30;
const POLL_MS = 3, WAIT_MS_MAX = 10_000;

/** Sends a client's bytes through ours to Envoy, and to Envoy alone. @param bytes the preface first, @param changes of what was judged */
export async function askAboutHttp2(
  oracle: EnvoyOracle,
  bytes: Uint8Array,
  changes: readonly FieldChange[] = [],
): Promise<Compared> {
  const alone = oracle.ask(bytes);
  const host = new SeenHttp2Host(() => ({ verdict: "allowed", changes })), client = new MemorySocket();
  let server: AskedSocket | undefined;
  host.connect = async () => server = await oracle.connect();
  const from = new Inflow(client);
  client.send(bytes);
  const ended = from.fill().then(() => new Http2Connection(client, from, host).run());
  let isOver = false;
  void ended.then(() => isOver = true);
  const until = performance.now() + WAIT_MS_MAX;
  let quietSince = performance.now(), before = "";
  while (!isOver && performance.now() < until) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    const state = `${host.judged.length} ${host.answers.length} ${host.faults.length}`;
    if (state !== before) [before, quietSince] = [state, performance.now()];
    const quietMs = host.answers.length < host.judged.length ? QUIET_MS : ANSWERED_QUIET_MS;
    if (performance.now() - quietSince > quietMs) break;
  }
  client.send(null);
  await ended;
  const seen = server === undefined ? [] : oracle.seen(server);
  const inLine = beyond(seen, host.judged.map((request) => judgedAs(request, request.target.path)));
  const wrong = inLine.map((read) => `in line, Envoy read ${read}, which was not judged`);
  const byAlone = (await alone).seen,
    ours = host.judged.map((request) => judgedAs(request, request.target.text));
  const more = beyond(byAlone, ours);
  for (const read of more) {
    const same = host.judged.findIndex(({ target }) =>
      numberOf(target.text) === numberOf(read.split(" ")[1])
    );
    if (same >= 0) wrong.push(`read ${ours[same]}, Envoy alone ${read}`);
    else if (host.faults.length === 0) {
      wrong.push(`Envoy alone read ${read}, which was neither judged nor refused`);
    }
  }
  const { refusals, wrong: given } = server === undefined ? { refusals: [], wrong: [] } : refusedBy(server);
  wrong.push(...given);
  return {
    wrong,
    agreed: seen.length,
    stricter: more.length,
    refusals,
  };
}

/**
 * What we passed on and Envoy reset, or answered itself, with its word for it. A connection that Envoy gives up is wrong whatever came: what a
 * proxy passes on is legal.
 */
function refusedBy(server: AskedSocket): { refusals: string[]; wrong: string[] } {
  const answers = new TestPeer(new MemorySocket(), false), asked = new TestPeer(new MemorySocket(), true);
  answers.socket.written.push(...server.received);
  asked.socket.written.push(...server.sent);
  const refusals: string[] = [];
  const refuse = (word: string, stream: number) => {
    const fields = asked.fieldsOf(stream),
      valueOf = (name: string) => fields.find(([key]) => key === name)?.[1];
    const host = valueOf(":authority") || valueOf("host") || "";
    refusals.push(
      `${word}: ${host === "" ? "no host" : `${valueOf(":method")} ${valueOf(":path")} at ${host}`}, ${
        JSON.stringify(fields)
      }`,
    );
  };
  for (const { type, stream, payload, fields } of answers.frames) {
    const status = fields.find(([name]) => name === ":status")?.[1];
    if (type === FRAME.RST_STREAM && payload[3] !== 0) refuse(`reset ${payload[3]}`, stream);
    else if (status !== undefined && Number(status) >= 200 && Number(status) !== SERVED) {
      refuse(status, stream);
    }
  }
  return { refusals, wrong: answers.said.filter((one) => /^GOAWAY [^0]/.test(one)) };
}

/** Those of the first that are not among the second, each as often as it is there. */
function beyond(seen: readonly SeenRequest[], judged: readonly string[]): string[] {
  const left = [...judged];
  return seen.map(shownOf).filter((read) => {
    const at = left.indexOf(read);
    if (at >= 0) left.splice(at, 1);
    return at < 0;
  });
}

/** What a path of GeneratedStreams begins with. */
const numberOf = (path: string) => /^\/(\d+)\//.exec(path)?.[1] ?? path;

function judgedAs({ method, host, fields }: RequestFields, path: string): string {
  return shown({
    method,
    path,
    host,
    fields: fields.filter(({ name }) => !name.startsWith(":")).map(({ name, value }) =>
      [name, utf8(value)] as const
    ),
  });
}
