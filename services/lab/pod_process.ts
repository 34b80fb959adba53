/**
 * The commands of a pod, run in its network namespace and started again when they die.
 *
 * @module
 */
import { Backoff } from "@weir/common";
import { SupervisedProcess } from "@weir/common/supervised-process";
import { enterPod } from "./hosts.ts";
import type { PodCommand } from "./manifest.ts";

/** Where a pod's command runs. */
export interface PodPlace {
  readonly netns: string;
  readonly namespace: string;
  readonly pod: string;
  readonly node: string;
  /** Value of {@link POD_MARK} in the environment of all that the command starts. */
  readonly mark: string;
  /** Directory of the manifest. */
  readonly directory: string;
  readonly logFile: string;
  /** Mounted over /etc/hosts. */
  readonly hostsFile: string;
}

/** By this the processes of a pod are told from others in the same network namespace. */
export const POD_MARK = "WEIR_LAB_POD";
/** A command that ran this long before it died starts again at once. */
const STABLE_MS = 10_000;

/** One command of a pod. What it leaves running in the namespace when it is stopped is the caller's to kill. */
export function podProcess(command: PodCommand, place: PodPlace): SupervisedProcess {
  const { netns, namespace, pod, node, directory, logFile } = place;
  // The shell sends the output to the log and then becomes the command, so the pid is the command's.
  const words = enterPod(netns, place.hostsFile, [
    "sh",
    "-c",
    'cd "$0" && log=$1 && shift && exec "$@" >>"$log" 2>&1 </dev/null',
    command.directory ?? directory,
    logFile,
    ...command.words,
  ]);
  const environment = {
    ...command.environment,
    HOSTNAME: pod,
    POD_NAME: pod,
    POD_NAMESPACE: namespace,
    NODE_NAME: node,
    [POD_MARK]: place.mark,
  };
  return new SupervisedProcess({
    command: { words, environment },
    stableMs: STABLE_MS,
    stopMsMax: 0,
    backoff: new Backoff({ delayMsMin: 200, delayMsMax: 10_000 }),
  });
}
