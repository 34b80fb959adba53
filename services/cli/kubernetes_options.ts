/**
 * Which Kubernetes a command means. `--kubernetes`, `--kubeconfig`, `--context` and `--weir-namespace` are flags of every command
 * (args.ts takes them); what they lead to is loaded when one is given.
 *
 * @module
 */
import { type OptionTable, type ParsedArgs, text } from "./args.ts";
import type { CommandContext } from "./context.ts";

/** Flags of commands that change or ask an installation: where Weir is, as `--weir-namespace` says it everywhere. */
export const KUBERNETES_OPTIONS = {
  "namespace": { type: "string", short: "n" },
} as const satisfies OptionTable;

/** Whether a command that may mean this host means Kubernetes. */
export function meansKubernetes(context: CommandContext, parsed: ParsedArgs): boolean {
  return context.flags.kubernetes !== undefined || text(parsed, "namespace") !== undefined;
}
