/** `weir ui`: serves the web page in the foreground. @module */
import { untilAborted } from "@weir/common/deadline";
import { readInputTextSync } from "@weir/common/input-file";
import { Logger } from "@weir/common/log";
import { startUi, type WebTls } from "@weir/ui";
import { flag, noWords, parse, text, texts } from "./args.ts";
import { statusTargets } from "./clients.ts";
import { type CommandContext, hostInstance, UsageError } from "./context.ts";

const HINT = "weir help ui";
const LISTEN_DEFAULT = "127.0.0.1:12000";
const PAGE = new URL("../../.build/ui", import.meta.url).pathname;
const FILE_BYTES_MAX = 1 << 20, TOKEN_LENGTH_MIN = 16;

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
  const lab = context.lab(),
    tokenFile = text(parsed, "token-file"),
    directory = text(parsed, "tls-directory");
  const token = tokenFile === undefined ? undefined : readToken(tokenFile);
  const ui = await startUi({
    listen: text(parsed, "listen") ?? LISTEN_DEFAULT,
    basePath: text(parsed, "base-path"),
    hosts: texts(parsed, "host"),
    token,
    tls: directory === undefined ? undefined : await readTls(directory),
    page: PAGE,
    lab: lab?.name,
    log: new Logger({ name: "ui", level: "warn" }),
    services: {
      flowSockets: [
        `${context.run.path}/${lab?.controlPlane ?? hostInstance()}/hubble-relay.sock`,
        `${context.node().directory}/hubble.sock`,
      ],
      identityAllocator: context.address("identity-allocator"),
      flowHistory: `unix:${context.run.path}/${lab?.controlPlane ?? hostInstance()}/flow-history-read.sock`,
      policyEngine: context.address("policy-engine"),
      status: statusTargets(context),
    },
  });
  try {
    context.io.out(`${ui.address}\n`);
    if (token !== undefined) context.io.err(`weir: open it with ?token= and what ${tokenFile} holds\n`);
    if (!flag(parsed, "no-open") && token === undefined) openBrowser(ui.address);
    await untilAborted(context.io.interrupted);
  } finally {
    await ui.stop();
  }
  return 0;
}

function readToken(path: string): string {
  const token = readInputTextSync(path, { bytesMax: FILE_BYTES_MAX }).trim();
  if (token.length >= TOKEN_LENGTH_MIN && /^[\x21-\x7e]+$/.test(token)) return token;
  throw new UsageError(
    `${path} holds no token: expected ${TOKEN_LENGTH_MIN} characters or more, without spaces`,
    HINT,
  );
}

async function readTls(directory: string): Promise<WebTls> {
  const read = (name: string) => readInputTextSync(`${directory}/${name}`, { bytesMax: FILE_BYTES_MAX });
  const isThere = await Deno.stat(`${directory}/ca.crt`).then(() => true, () => false);
  return {
    cert: read("node.crt"),
    key: read("node.key"),
    authority: isThere ? read("ca.crt") : undefined,
  };
}

/** Where there is a screen. That it does not open is no failure: the address stands above. */
function openBrowser(address: string): void {
  if (!Deno.env.get("DISPLAY") && !Deno.env.get("WAYLAND_DISPLAY")) return;
  try {
    new Deno.Command("xdg-open", { args: [address], stdin: "null", stdout: "null", stderr: "null" }).spawn()
      .unref();
  } catch {
    // No xdg-open.
  }
}
