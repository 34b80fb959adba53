/**
 * `weir join TOKEN` and `weir cluster init|leave`: what makes this machine a member, and what ends that.
 *
 * @module
 */
import { type Clock, systemClock } from "@weir/common/clock";
import { hostPort, parseHostPort, parseJoinToken } from "@weir/common/join-token";
import {
  planeTarget,
  readMembership,
  removeMembership,
  writeCredentials,
  writeMembership,
} from "@weir/common/membership";
import { ProblemError } from "@weir/common/problem";
import { unprivilegedUser } from "@weir/common/service-user";
import { createCertificateRequest } from "@weir/common/certificate-request";
import { WeirClient } from "@weir/client";
import { IssueRequest, IssueResponse, Member } from "@weir/proto/certificate";
import { Node } from "@weir/proto/identity";
import { flag, noWords, parse, type ParsedArgs, text } from "./args.ts";
import { checkAuthority } from "./authority_check.ts";
import { clientOf, isUnreachable } from "./clients.ts";
import { type CommandContext, hostname, stateDirectory, UsageError } from "./context.ts";

const HINT = "weir help cluster";
/** Machines whose clocks differ by more are told so. */
const SKEW_MS_MAX = 60_000;

const MEMBER_OPTIONS = {
  "listen": { type: "string" },
  "database-url": { type: "string" },
  "node-name": { type: "string" },
  "no-start": { type: "boolean" },
} as const;

/** `weir join TOKEN`. */
export async function joinCommand(args: string[], context: CommandContext): Promise<number> {
  const parsed = parse(args, { ...MEMBER_OPTIONS, "control-plane": { type: "boolean" } }, HINT);
  const [word, ...more] = parsed.positionals;
  if (word === undefined || more.length > 0) {
    throw new UsageError("Say the join token: weir join TOKEN", HINT);
  }
  const plane = planeOptions(parsed);
  const directory = needsFreeMachine("join");
  const token = parseJoinToken(word);
  if ((token.role === "control-plane") !== (plane !== undefined)) {
    throw new UsageError(
      plane === undefined
        ? "This token is for a machine of the control plane: say --control-plane --listen ADDRESS"
        : "This token is for a node: weir cluster token --role control-plane makes the other kind",
      HINT,
    );
  }
  const found = await checkAuthority(token);
  const node = text(parsed, "node-name") ?? hostname();
  const { keyPem, requestPem } = await createCertificateRequest(node);
  const answer = await ask(found.address, found.authorityPem, {
    requestPem,
    secret: token.secret,
    node,
    addresses: plane === undefined ? [] : [plane.listen],
  });
  warnOfSkew(context, answer.serverUnixS, systemClock);
  prepare(directory);
  writeCredentials(directory, {
    cert: answer.certificatePem,
    key: keyPem,
    authority: answer.authorityPem,
  }, unprivilegedUser(Deno.readTextFileSync("/etc/passwd")));
  writeMembership(directory, {
    version: 1,
    cluster: answer.cluster,
    node,
    role: answer.role === "control-plane" ? "control-plane" : "node",
    addresses: answer.addresses.length > 0 ? answer.addresses : token.addresses,
    ...plane,
  });
  context.io.out(`${node} is a member of cluster "${answer.cluster}" (${answer.role})\n`);
  return await startAgent(parsed, context);
}

/** `weir cluster init --listen ADDRESS`. */
export async function initCommand(args: string[], context: CommandContext): Promise<number> {
  const parsed = parse(args, { ...MEMBER_OPTIONS, cluster: { type: "string" } }, HINT);
  noWords(parsed, HINT);
  const directory = needsFreeMachine("make a cluster");
  const listen = listenOf(text(parsed, "listen"));
  if (listen === undefined) {
    throw new UsageError("Say on which address the other machines reach this one: --listen ADDRESS", HINT);
  }
  const databaseUrl = databaseOf(parsed);
  prepare(directory);
  writeMembership(directory, {
    version: 1,
    cluster: text(parsed, "cluster") ?? "default",
    node: text(parsed, "node-name") ?? hostname(),
    role: "control-plane",
    addresses: [listen],
    listen,
    ...(databaseUrl === undefined ? {} : { databaseUrl }),
  });
  context.io.out(`This machine is the control plane of a new cluster, at ${listen}\n`);
  return await startAgent(parsed, context);
}

/** `weir cluster leave [--force]`. */
export async function leaveCommand(args: string[], context: CommandContext): Promise<number> {
  const parsed = parse(args, { force: { type: "boolean" } }, HINT);
  noWords(parsed, HINT);
  needsRoot("leave");
  const directory = stateDirectory();
  const membership = readMembership(directory);
  if (membership === undefined) throw new Error("Cannot leave: this machine is not a member of a cluster");
  if (await hasUnit()) await systemctl("disable", "--now", "weir");
  if (await agentRuns(context)) {
    throw new Error("Cannot leave while the agent runs: stop it first");
  }
  try {
    await resign(membership.addresses, membership.node, directory);
  } catch (error) {
    if (!flag(parsed, "force")) {
      throw new ProblemError("LEAVE_UNHEARD", {
        status: 503,
        detail: `Cannot tell the control plane that ${membership.node} leaves: ${(error as Error).message}`,
        action:
          `weir cluster leave --force leaves all the same; then weir cluster remove ${membership.node} elsewhere`,
      });
    }
    context.io.err(`weir: the control plane was not told: ${(error as Error).message}\n`);
  }
  removeMembership(directory);
  context.io.out(
    `${membership.node} has left cluster "${membership.cluster}". What is in the kernel works on: weir uninstall removes it\n`,
  );
  return 0;
}

/** Gives up this machine's addresses and identities, then its certificate. */
async function resign(addresses: readonly string[], node: string, directory: string): Promise<void> {
  const allocator = new WeirClient(planeTarget(addresses, "identity-allocator", directory));
  const authority = new WeirClient(planeTarget(addresses, "certificate-authority", directory));
  try {
    await allocator.collection("nodes", Node).delete(node);
    const members = authority.collection("members", Member);
    // The answer may be lost: this certificate is refused from then on, which is one too.
    await members.delete(node).catch((error) => {
      if (!isUnreachable(error)) throw error;
      return members.delete(node);
    }).catch((error) => {
      if (!(error instanceof ProblemError) || error.code !== "CERTIFICATE_REMOVED") throw error;
    });
  } finally {
    allocator.close();
    authority.close();
  }
}

async function ask(
  address: string,
  authorityPem: string,
  value: Partial<IssueRequest>,
): Promise<IssueResponse> {
  const client = new WeirClient({ url: `https://${address}`, ca: [authorityPem] });
  try {
    // The answer may be lost on its way: the same key gets the same machine's certificate again.
    for (let attempt = 1;; attempt++) {
      try {
        return await client.call("/v1/certificates:issue", {
          request: { message: IssueRequest, value },
          response: IssueResponse,
        });
      } catch (error) {
        if (attempt === 3 || !isUnreachable(error)) throw error;
      }
    }
  } finally {
    client.close();
  }
}

function planeOptions(parsed: ParsedArgs): { listen: string; databaseUrl?: string } | undefined {
  if (!flag(parsed, "control-plane")) {
    if (text(parsed, "listen") ?? text(parsed, "database-url")) {
      throw new UsageError(
        "--listen and --database-url are for a machine of the control plane: --control-plane",
        HINT,
      );
    }
    return undefined;
  }
  const listen = listenOf(text(parsed, "listen")), databaseUrl = databaseOf(parsed);
  if (listen === undefined || databaseUrl === undefined) {
    throw new UsageError(
      "A further machine of the control plane needs --listen ADDRESS and the database that the first one uses: --database-url postgres://... or WEIR_DATABASE_URL",
      HINT,
    );
  }
  return { listen, databaseUrl };
}

function databaseOf(parsed: ParsedArgs): string | undefined {
  const given = text(parsed, "database-url");
  if (given !== undefined && /^[a-z]+:\/\/[^/@]*:[^/@]+@/.test(given)) {
    throw new UsageError(
      "A password on the command line is seen by everybody: give the URL as WEIR_DATABASE_URL",
      HINT,
    );
  }
  const url = given ?? (Deno.env.get("WEIR_DATABASE_URL") || undefined);
  if (url !== undefined && !/^postgres(ql)?:\/\//.test(url)) {
    throw new UsageError(`Cannot share "${url.slice(0, 40)}": expected postgres://...`, HINT);
  }
  return url;
}

function listenOf(given: string | undefined): string | undefined {
  if (given === undefined) return undefined;
  const found = parseHostPort(given);
  if (found === undefined || /^(0\.0\.0\.0|::)$/.test(found.hostname)) {
    throw new UsageError(
      `Cannot listen on "${given}": expected an address that the other machines reach`,
      HINT,
    );
  }
  return hostPort(found.hostname, found.port);
}

/** The state directory of a machine that is no member yet. */
function needsFreeMachine(what: string): string {
  needsRoot(what);
  const directory = stateDirectory();
  const before = readMembership(directory);
  if (before !== undefined) {
    throw new Error(
      `Cannot ${what}: this machine is ${before.node} of cluster "${before.cluster}" already; weir cluster leave ends that`,
    );
  }
  return directory;
}

function needsRoot(what: string): void {
  if (Deno.uid() !== 0) throw new Error(`Cannot ${what}: it needs root`);
}

/** Makes the state directory as the agent would: root's, for the services' group to enter. */
function prepare(directory: string): void {
  Deno.mkdirSync(directory, { recursive: true, mode: 0o750 });
  Deno.chownSync(directory, 0, unprivilegedUser(Deno.readTextFileSync("/etc/passwd")).gid);
  Deno.chmodSync(directory, 0o750);
}

function warnOfSkew(context: CommandContext, serverUnixS: number, clock: Clock): void {
  const skewMs = clock.nowMs() - serverUnixS * 1000;
  if (Math.abs(skewMs) < SKEW_MS_MAX) return;
  context.io.err(
    `weir: this machine's clock is ${Math.round(Math.abs(skewMs) / 1000)} s ${
      skewMs > 0 ? "ahead of" : "behind"
    } the control plane's: set both by NTP (timedatectl set-ntp true)\n`,
  );
}

async function startAgent(parsed: ParsedArgs, context: CommandContext): Promise<number> {
  if (!flag(parsed, "no-start") && await hasUnit()) {
    await systemctl("enable", "weir");
    await systemctl("restart", "weir");
    context.io.out("The agent runs (systemctl status weir); weir status --wait says when it is ready\n");
  } else {
    context.io.out("Start the agent: weir agent\n");
  }
  return 0;
}

async function agentRuns(context: CommandContext): Promise<boolean> {
  const agent = clientOf(context, "agent");
  try {
    await agent.json("/version");
    return true;
  } catch (error) {
    if (isUnreachable(error)) return false;
    throw error;
  } finally {
    agent.close();
  }
}

/** Whether systemd runs here and knows the agent's unit, wherever it is. */
async function hasUnit(): Promise<boolean> {
  if (await Deno.stat("/run/systemd/system").then(() => false, () => true)) return false;
  const args = ["cat", "weir.service"];
  return (await new Deno.Command("systemctl", { args, stdin: "null", stdout: "null", stderr: "null" })
    .output())
    .success;
}

async function systemctl(...args: string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command("systemctl", { args, stdin: "null", stderr: "piped" })
    .output();
  if (!success) {
    throw new Error(`Cannot run systemctl ${args.join(" ")}: ${new TextDecoder().decode(stderr).trim()}`);
  }
}
