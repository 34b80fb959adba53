/**
 * Errors of transport as a person should read them: which service of which node did not answer, and what to start.
 *
 * @module
 */
import { ProblemError } from "@weir/common/problem";

const SOCKET = /unix:(\/\S+)\/([^/\s]+)\/([a-z-]+)\.sock/;

/** What did not answer, with what to do on a second line; undefined for errors of another kind. */
export function transportText(error: unknown): string | undefined {
  if (!(error instanceof ProblemError)) return undefined;
  const hangs = error.code === "DEADLINE_EXCEEDED" || error.code === "STREAM_SILENT";
  if (error.code !== "UNREACHABLE" && !hangs) return undefined;
  const socket = SOCKET.exec(error.message);
  if (socket === null) return `${error.message}${causeText(error)}${actionText(hangs)}`;
  const [address, , instance, service] = socket;
  const who = `${service} of ${instance === "host" ? "this host" : instance.replace(/^.*?-(?=node-)/, "")}`;
  if (hangs) {
    const [, ms] = /within (\d+) ms/.exec(error.message) ?? [];
    const time = ms === undefined ? "" : ` within ${Number(ms) / 1000} s`;
    return `${who} does not answer${time} at ${address}${actionText(true)}`;
  }
  if (isForbidden(error)) return `Cannot ask ${who} at ${address}: permission denied\n  Run it as root`;
  return `No ${service} answers at ${address}\n  ${
    instance === "host"
      ? "Start Weir on this host: weir agent --control-plane, or systemctl start weir; or a lab: weir lab up"
      : "Start it: weir lab up for a lab, weir agent --instance NAME for an instance; weir status says what runs"
  }`;
}

function actionText(hangs: boolean): string {
  return hangs ? "\n  Its process hangs or has no time; weir status says who does not answer" : "";
}

function causeText({ cause }: Error): string {
  return cause instanceof Error ? `: ${cause.message}` : "";
}

function isForbidden(error: Error): boolean {
  for (let cause: unknown = error.cause, depth = 0; cause instanceof Error && depth < 4; depth++) {
    if (cause instanceof Deno.errors.PermissionDenied || /EACCES|Permission denied/i.test(cause.message)) {
      return true;
    }
    cause = cause.cause;
  }
  return false;
}
