/** `weir ui`: opens the web page that is there, or serves one in the foreground. @module */
import { randomBytes } from "node:crypto";
import { WeirClient } from "@weir/client";
import { untilAborted } from "@weir/common/deadline";
import { Logger } from "@weir/common/log";
import { UI_PORT } from "@weir/common/membership";
import { Ticket } from "@weir/proto/ui";
import { readWebTls, readWebToken, startUi } from "@weir/ui";
import { flag, noWords, parse, type ParsedArgs, text, texts } from "./args.ts";
import { openBrowser } from "./browser.ts";
import { statusTargets } from "./clients.ts";
import { type CommandContext, hostInstance, UsageError } from "./context.ts";
import { forwardPort, toSocket } from "./port_forward.ts";

const HINT = "weir help ui";
const LISTEN_DEFAULT = `127.0.0.1:${UI_PORT}`;
const PAGE = new URL("../../.build/ui", import.meta.url).pathname;
/** Options of a page of one's own. */
const OWN = ["base-path", "host", "token-file", "tls-directory"];
const TICKET_MS_MAX = 5000;

/** Runs the command. */
export async function uiCommand(args: string[], context: CommandContext): Promise<number> {
  const parsed = parse(args, {
    listen: { type: "string" },
    "no-open": { type: "boolean" },
    "base-path": { type: "string" },
    host: { type: "string", multiple: true },
    "token-file": { type: "string" },
    "tls-directory": { type: "string" },
  }, HINT);
  noWords(parsed, HINT);
  if (context.flags.server !== undefined) throw new UsageError("weir ui takes no --server", HINT);
  if (context.flags.kubernetes !== undefined) {
    const own = parsed.given.find(({ name }) => OWN.includes(name));
    if (own !== undefined) {
      throw new UsageError(`--${own.name} is of a page that this host serves, not of a cluster's`, HINT);
    }
    const { openCluster } = await import("./install/access.ts");
    const { showClusterPage } = await import("./hubble/page.ts");
    using cluster = openCluster(context, HINT);
    const options = { listen: text(parsed, "listen"), open: !flag(parsed, "no-open") };
    return await showClusterPage(cluster, options, context);
  }
  const isOwn = parsed.given.some(({ name }) => OWN.includes(name));
  const ticket = isOwn ? undefined : await ticketOf(context);
  if (ticket === undefined) await serveOwn(parsed, context);
  else await openResident(ticket, parsed, context);
  return 0;
}

/** A way in to the page that is always there; undefined where there is none. @throws {ProblemError} it does not answer */
async function ticketOf(context: CommandContext): Promise<Ticket | undefined> {
  const address = context.address("ui");
  try {
    await Deno.lstat(address.slice("unix:".length));
  } catch (error) {
    // Who may not look there is told so by the answer.
    if (error instanceof Deno.errors.NotFound) return undefined;
  }
  const client = new WeirClient(address);
  try {
    return await client.call("/v1/tickets", { response: Ticket, deadlineMs: TICKET_MS_MAX });
  } finally {
    client.close();
  }
}

async function openResident(ticket: Ticket, parsed: ParsedArgs, context: CommandContext): Promise<void> {
  const { token, basePath, unserved } = ticket, listen = text(parsed, "listen");
  if (unserved !== "") context.io.err(`weir: the page listens on no port of its own: ${unserved}\n`);
  // The node of a lab has a loopback of its own.
  if (ticket.address !== "" && listen === undefined && context.lab() === undefined) {
    return await show(`${ticket.address}?token=${token}`, parsed, context);
  }
  const forward = await forwardPort({
    listen: listen ?? LISTEN_DEFAULT,
    isAnyPort: listen === undefined,
    lead: toSocket(context.address("ui").slice("unix:".length).replace(/\.sock$/, "-page.sock")),
  });
  try {
    await show(`http://${forward.address}${basePath}?token=${token}`, parsed, context);
    await untilAborted(context.io.interrupted);
  } finally {
    await forward.stop();
  }
}

/** With the rights of the caller. */
async function serveOwn(parsed: ParsedArgs, context: CommandContext): Promise<void> {
  const lab = context.lab(), plane = `${context.run.path}/${lab?.controlPlane ?? hostInstance()}`;
  const tokenFile = text(parsed, "token-file"), directory = text(parsed, "tls-directory");
  // A port has no mode: who may not open our sockets must not read here.
  const token = tokenFile === undefined ? randomBytes(32).toString("base64url") : readWebToken(tokenFile);
  const ui = await startUi({
    listen: text(parsed, "listen") ?? LISTEN_DEFAULT,
    basePath: text(parsed, "base-path"),
    hosts: texts(parsed, "host"),
    token,
    tls: directory === undefined ? undefined : readWebTls(directory),
    page: PAGE,
    lab: lab?.name,
    log: new Logger({ name: "ui", level: "warn" }),
    services: {
      flowSockets: [`${plane}/hubble-relay.sock`, `${context.node().directory}/hubble.sock`],
      identityAllocator: context.address("identity-allocator"),
      flowHistory: `unix:${plane}/flow-history-read.sock`,
      policyEngine: context.address("policy-engine"),
      status: statusTargets(context),
    },
  });
  try {
    if (tokenFile === undefined) await show(`${ui.address}?token=${token}`, parsed, context);
    else {
      context.io.out(`${ui.address}\n`);
      context.io.err(`weir: open it with ?token= and what ${tokenFile} holds\n`);
    }
    await untilAborted(context.io.interrupted);
  } finally {
    await ui.stop();
  }
}

async function show(url: string, parsed: ParsedArgs, { io }: CommandContext): Promise<void> {
  io.out(`${url}\n`);
  if (!flag(parsed, "no-open")) await openBrowser(url);
}
