/** A connection of HTTP/1.1 through our proxy with Envoy behind it as the server, and the same bytes to Envoy alone. @module */
import { bytesOf, latin1, MemorySocket, SeenHost } from "../../services/l7-proxy/testing.ts";
import { Http1Connection } from "../../services/l7-proxy/http1/connection.ts";
import type { FieldChange } from "../../services/l7-proxy/http1/head_change.ts";
import { Llhttp } from "../../services/l7-proxy/http1/llhttp.ts";
import type { RequestHead } from "../../services/l7-proxy/http1/request_head.ts";
import { type AskedSocket, DEFAULT_HOST, type EnvoyOracle } from "./oracle.ts";
import type { SeenRequest } from "./origin.ts";
import { shown, shownOf } from "./reading.ts";
import type { Compared } from "./tally.ts";

const RUN_MS_MAX = 20_000;
const SERVED = 204;
const llhttp = new Llhttp();

/**
 * Sends a client's bytes through ours to Envoy, and to Envoy alone.
 * @param text characters are bytes, @param pieceBytes how many the next piece has, @param changes of what was judged
 */
export async function askAboutHttp1(
  oracle: EnvoyOracle,
  text: string,
  { pieceBytes = () => 1 << 20, changes = [] }: {
    pieceBytes?: () => number;
    changes?: readonly FieldChange[];
  } = {},
): Promise<Compared> {
  const alone = oracle.ask(bytesOf(text));
  const host = new SeenHost(() => ({ verdict: "allowed", changes })), client = new MemorySocket();
  let server: AskedSocket | undefined;
  host.connect = async () => server = await oracle.connect();
  for (let bytes = bytesOf(text); bytes.length > 0;) {
    const count = pieceBytes();
    client.send(bytes.subarray(0, count));
    bytes = bytes.subarray(count);
  }
  client.send(null);
  const connection = new Http1Connection(client, host);
  const timer = setTimeout(() => connection.close(), RUN_MS_MAX);
  await connection.run();
  clearTimeout(timer);
  const sent = server === undefined ? "" : server.sent.map(latin1).join("");
  const inLine = compareInLine(host, server === undefined ? [] : oracle.seen(server), sent);
  const { wrong, stricter } = compareAlone(host, (await alone).seen);
  return {
    wrong: [...inLine.wrong, ...wrong],
    agreed: inLine.agreed,
    stricter,
    refusals: server?.reasons ?? [],
  };
}

/** What passed our proxy, and what Envoy behind it read: request by request, and nothing more. */
function compareInLine(
  host: SeenHost,
  seen: readonly SeenRequest[],
  sent: string,
): { wrong: string[]; agreed: number } {
  const wrong: string[] = [];
  // Those that are sent to another path do not go on.
  const passed = host.judged.filter(({ target }) => target.redirect === undefined);
  const { messages, error } = llhttp.read(bytesOf(sent));
  let at = 0, agreed = 0;
  for (const [index, head] of passed.entries()) {
    const judged = judgedAs(head, head.target.path), read = at < seen.length ? shownOf(seen[at]) : "nothing";
    if (read === judged) {
      const { body, isWhole } = seen[at++];
      agreed++;
      if (error === 0 && isWhole && messages[index].body !== body) {
        wrong.push(`passed on ${judged} with a body of ${messages[index].body}, of which Envoy read ${body}`);
      }
    } else if (host.answers.find((one) => one.head === head)?.status === SERVED) {
      wrong.push(`judged ${judged}, Envoy read ${read}`);
    }
  }
  for (const more of seen.slice(at)) wrong.push(`Envoy read ${shownOf(more)}, which was not judged`);
  return { wrong, agreed };
}

/** What we and Envoy alone read of one connection's bytes: the same, until one of both goes no further. */
function compareAlone(
  { judged }: SeenHost,
  seen: readonly SeenRequest[],
): { wrong: string[]; stricter: number } {
  const wrong: string[] = [];
  for (const [index, head] of judged.slice(0, seen.length).entries()) {
    const ours = judgedAs(head, asSent(head)), read = shownOf(seen[index]);
    if (ours !== read) wrong.push(`read ${ours}, Envoy alone ${read}`);
  }
  return { wrong, stricter: Math.max(0, seen.length - judged.length) };
}

/** The path as it came: without scheme and authority, but not in its plain form. */
function asSent({ target: { text, authority } }: RequestHead): string {
  if (authority === undefined) return text;
  const path = text.slice(text.indexOf("//") + 2 + authority.length);
  return path.startsWith("/") ? path : `/${path}`;
}

function judgedAs({ method, version, host, target, fields }: RequestHead, path: string): string {
  const namesHost = version !== "HTTP/1.0" || fields.some(({ key }) => key === "host");
  return shown({
    method,
    path,
    host: namesHost ? host : target.authority ?? DEFAULT_HOST,
    fields: fields.map(({ name, value }) => [name, value] as const),
  });
}
