/**
 * Help of what makes a host run Weir and no longer run it, and of the command itself.
 *
 * @module
 */
import { AGENT_CONFIG } from "@weir/agent/options";
import type { ConfigSpec } from "@weir/common/config";
import { KUBERNETES } from "./kubernetes.ts";
import type { FlagTexts, Manual } from "./manual.ts";

/** Help of `weir agent`. */
export const AGENT: Manual = {
  summary: "run the services of this node in the foreground; with --control-plane everything",
  verbs: {
    "": {
      says:
        "Needs root. Each service is a process of its own with exactly its permissions. Stopping the agent leaves the kernel's state working; weir uninstall removes it.",
      flags: {
        "--config FILE": "YAML file with these options, in lowerCamelCase",
        ...flagsOfConfig(AGENT_CONFIG),
      },
    },
  },
  notes: "Each option can also be WEIR_NAME in the environment.\n",
};

/** Help of `weir uninstall`. */
export const UNINSTALL: Manual = {
  summary: "remove everything of Weir from this host's kernel",
  verbs: {
    "": {
      says:
        "Removes links, programs, maps, pins, devices and routes of this host's own Weir. Refused while its agent runs. Labs are removed with weir lab down; files with apt remove weir or scripts/install --uninstall. With --kubernetes: from every node of that cluster.",
      flags: {
        "--instance NAME": `which one (default WEIR_INSTANCE, else "host")`,
        "-y, --yes": "do not ask; without a terminal nobody is asked",
        ...KUBERNETES,
        "--timeout SECONDS": "of a cluster: how long pods and nodes may take (default 300)",
        "--crds": "of a cluster: also the definitions of custom resources, and with them all policies",
      },
    },
  },
};

/** Help of `weir completion`. */
export const COMPLETION: Manual = {
  summary: "print the completion of this command for a shell: bash, zsh, fish",
  verbs: {
    bash: { says: 'For bash: eval "$(weir completion bash)"' },
    zsh: { says: "For zsh: weir completion zsh >~/.zfunc/_weir" },
    fish: { says: "For fish: weir completion fish >~/.config/fish/completions/weir.fish" },
    names: {
      words: "KIND",
      says:
        "Names of what is there now, as completion asks for them: endpoints, policies, services, nodes, labs, namespaces, logs.",
    },
  },
  notes: "The package installs all three.\n",
};

/** Help of `weir help`. */
export const HELP: Manual = {
  summary: "say what a command does and which flags it takes",
  verbs: { "": { words: "[COMMAND]", says: "Without a command: all of them in one line each." } },
};

/** Help of `weir version`. */
export const VERSION: Manual = {
  summary: "print the version of Weir and of its runtime",
  verbs: { "": { says: "Also as weir --version." } },
};

function flagsOfConfig(spec: ConfigSpec): FlagTexts {
  const flags: Record<string, string> = {};
  for (const [name, { kind, default: given, description }] of Object.entries(spec)) {
    const kebab = name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    const value = kind === "flag" ? "" : ` ${kind.toUpperCase()}`;
    flags[`--${kebab}${value}${kind === "list" ? "..." : ""}`] = `${description ?? ""}${
      given === undefined || given === "" ? "" : ` (default ${given})`
    }`;
  }
  return flags;
}
