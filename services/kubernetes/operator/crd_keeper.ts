/** Puts the definitions of custom resources in place before anything of their kinds is read or written. @module */
import type { Logger } from "@weir/common/log";
import { ProblemError } from "@weir/common/problem";
import { type ApiClient, ApiServerError, type KubernetesObject, RESOURCES } from "../api/mod.ts";
import { customResources, SCHEMA_VERSION, SCHEMA_VERSION_LABEL } from "./crds/mod.ts";
import { FIELD_MANAGER, MANAGED_BY, WEIR } from "./field_manager.ts";

const ESTABLISHED_MS_MAX = 30_000;
const LOOK_MS = 200;

/** What became of one definition: put in place, or left as somebody else, or a newer Weir, has it. */
export interface DefinitionOutcome {
  name: string;
  outcome: "applied" | "foreign" | "newer";
}

/** Options of {@link keepDefinitions}. */
export interface KeepDefinitionsOptions {
  signal?: AbortSignal;
  log?: Logger;
}

/**
 * Applies every definition, and waits until the API server serves them. Repeatable. A definition that is not Weir's stays as
 * it is (a cluster that another network has installed for), and so does a newer Weir's.
 * @throws {ApiServerError}; {ProblemError} DEFINITION_NOT_ESTABLISHED; DEFINITION_WITHOUT_VERSION: a foreign one does not
 * serve the version that Weir speaks
 */
export async function keepDefinitions(
  client: ApiClient,
  { signal, log }: KeepDefinitionsOptions = {},
): Promise<DefinitionOutcome[]> {
  const outcomes: DefinitionOutcome[] = [];
  for (const wanted of customResources()) {
    signal?.throwIfAborted();
    const { name } = wanted.metadata;
    const outcome = outcomeOf(wanted, await existing(client, name, signal));
    if (outcome === "applied") {
      await client.apply(RESOURCES.CustomResourceDefinition, wanted, {
        force: true,
        fieldManager: FIELD_MANAGER,
        signal,
      });
    } else log?.warn("Leaves a definition as it is", { name, outcome });
    outcomes.push({ name, outcome });
  }
  for (const { name } of outcomes) await waitEstablished(client, name, signal);
  return outcomes;
}

function outcomeOf(
  wanted: KubernetesObject,
  found: KubernetesObject | undefined,
): DefinitionOutcome["outcome"] {
  if (found === undefined) return "applied";
  const labels = found.metadata.labels ?? {};
  if (labels[MANAGED_BY] !== WEIR) {
    const version = wanted.spec.versions[0].name;
    const served = versionsServed(found);
    if (served.includes(version)) return "foreign";
    throw new ProblemError("DEFINITION_WITHOUT_VERSION", {
      status: 409,
      detail:
        `Cannot use ${found.metadata.name}: its definition is not Weir's, and does not serve ${version}`,
      found: served.join(", ") || "no version",
      expected: version,
      action: `See who made it: kubectl get crd ${found.metadata.name} -o yaml --show-managed-fields`,
    });
  }
  return Number(labels[SCHEMA_VERSION_LABEL] ?? 0) > SCHEMA_VERSION ? "newer" : "applied";
}

function versionsServed({ spec }: KubernetesObject): string[] {
  const versions: unknown = spec?.versions;
  return Array.isArray(versions)
    ? versions.filter(({ served }) => served).map(({ name }) => String(name))
    : [];
}

async function existing(
  client: ApiClient,
  name: string,
  signal: AbortSignal | undefined,
): Promise<KubernetesObject | undefined> {
  try {
    return await client.get(RESOURCES.CustomResourceDefinition, name, { signal });
  } catch (error) {
    if (error instanceof ApiServerError && error.code === "NOT_FOUND") return undefined;
    throw error;
  }
}

async function waitEstablished(client: ApiClient, name: string, signal: AbortSignal | undefined) {
  const endMs = client.clock.monotonicMs() + ESTABLISHED_MS_MAX;
  while (true) {
    const conditions: unknown = (await existing(client, name, signal))?.status?.conditions;
    const all = Array.isArray(conditions) ? conditions : [];
    if (all.some(({ type, status }) => type === "Established" && status === "True")) return;
    const refused = all.find(({ type, status }) => type === "NamesAccepted" && status === "False");
    if (refused !== undefined || client.clock.monotonicMs() > endMs) {
      throw new ProblemError("DEFINITION_NOT_ESTABLISHED", {
        status: 503,
        detail: `Cannot use ${name}: the API server does not serve it`,
        found: String(refused?.message ?? `no condition Established after ${ESTABLISHED_MS_MAX} ms`),
        expected: "the condition Established",
        action: `kubectl describe crd ${name}`,
      });
    }
    await client.clock.sleep(LOOK_MS, signal);
    signal?.throwIfAborted();
  }
}
