/**
 * The engine's HTTP surface: each handler decodes, calls, encodes.
 * @module
 */
import { type IpAddress, ProblemError } from "@weir/common";
import {
  AcceptRequest,
  ApplyRequest,
  ApplyResponse,
  CidrIdentity,
  DeleteRequest,
  EngineRevision,
  ExplainRequest,
  ExplainResponse,
  FqdnSelector,
  type MapState,
  NodePolicy,
  Policy,
  type PolicyChange,
  PolicyFault,
  PolicySelection,
  Rule,
  WaitRequest,
  WaitResponse,
} from "@weir/proto/policy";
import { explainRequest } from "./explain_request.ts";
import { selectsHost } from "./host_subject.ts";
import { manifestProblem, readManifests, type ReadManifestsOptions } from "./manifest.ts";
import { mountPendingRoutes, wantedConfirm } from "./pending_routes.ts";
import type { ConfirmRequest } from "./pending_rows.ts";
import { PolicySelections } from "./policy_selection.ts";
import { DATABASE_FAULT } from "./policy_follower.ts";
import { MANIFEST_BYTES_MAX } from "@weir/common/manifest";
import type { Policy as PolicyValue } from "./policy.ts";
import { mapStateParts, SHARED_MAP_STATE } from "./policy_group.ts";
import type { PolicyEngine } from "./policy_engine.ts";

/** Bodies of more than the largest manifest and some room for the envelope are refused before they are read. */
const BODY_BYTES_MAX = MANIFEST_BYTES_MAX + 64 * 1024;

/** Mounts everything on the engine's server. */
export function mountRoutes(engine: PolicyEngine): void {
  const { api, publisher, repository, admission } = engine;
  api.collection<Policy>({
    name: "policies",
    guard: admission.toPolicies,
    message: Policy,
    table: engine.store.policies,
    filters: {
      namespace: (namespace) => (policy) => policy.namespace === namespace,
      kind: (kind) => (policy) => policy.kind === kind,
    },
    put: async (name, value) => {
      const options = {
        file: value.file,
        line: Math.max(1, value.line),
        namespace: value.namespace || undefined,
      };
      const policies = read(engine, value.manifest, options);
      if (policies.length !== 1 || policies[0].name !== name) {
        throw new ProblemError("POLICY_NAME_MISMATCH", {
          detail: `Cannot put policy ${JSON.stringify(name)}: its manifest holds another`,
          found: policies.map((policy) => policy.name).join(", ") || "no policy",
          expected: name,
        });
      }
      await apply(engine, policies);
      return engine.store.policies.get(name)!;
    },
    delete: async (name) => (await remove(engine, [name]))[0].change === "deleted",
    bodyBytesMax: BODY_BYTES_MAX,
    description:
      "Policies, and CIDR groups that they name: cnp:NAMESPACE/NAME, ccnp:NAME, knp:NAMESPACE/NAME, anp:NAME, banp:default, clnp:NAME, ccg:NAME",
  });
  api.action({
    path: "/v1/policies:apply",
    guard: admission.toPolicies,
    request: ApplyRequest,
    response: ApplyResponse,
    bodyBytesMax: BODY_BYTES_MAX,
    handle: async (request) => {
      const policies = readAll(engine, request), confirm = wantedConfirm(engine, request);
      const items = request.dryRun ? preview(engine, policies) : await apply(engine, policies, confirm);
      return ApplyResponse.create({
        ...answerOf(engine, items, request.dryRun ? undefined : confirm),
        selectsHost: policies.some(selectsHost),
      });
    },
    description: "Every policy of a text of manifests, all or none",
  });
  api.action({
    path: "/v1/policies:delete",
    guard: admission.toPolicies,
    request: DeleteRequest,
    response: ApplyResponse,
    bodyBytesMax: BODY_BYTES_MAX,
    handle: async (request) => {
      const isNamed = request.names.length > 0 && request.manifest === "" && request.files.length === 0;
      const policies = isNamed ? [] : readAll(engine, request), confirm = wantedConfirm(engine, request);
      const names = new Set([...policies.map(({ name }) => name), ...request.names]);
      return ApplyResponse.create(answerOf(engine, await remove(engine, [...names], confirm), confirm));
    },
    description: "The policies that a text of manifests names",
  });
  api.action({
    path: "/v1/policies:accept-database",
    guard: admission.toPolicies,
    request: AcceptRequest,
    response: ApplyResponse,
    handle: async ({ mirrored }) => {
      if (mirrored) engine.assertMirrored();
      const accepted = await engine.store.accept(repository.policyRevision);
      await engine.syncPolicies();
      engine.publishNow();
      const change = accepted ? "accepted" : "unchanged";
      return ApplyResponse.create({
        policyRevision: repository.policyRevision,
        items: [{ name: DATABASE_FAULT, change, warnings: [] }],
      });
    },
    description: "Takes a database that is older than what is in force at nodes for the newest",
  });
  api.action({
    path: "/v1/policies:kubernetes-read",
    guard: admission.toPolicies,
    response: ApplyResponse,
    handle: async () => {
      await engine.kubernetesRead();
      return ApplyResponse.create({ policyRevision: repository.policyRevision });
    },
    description: "All policies that Kubernetes has were handed on: who waits for them is answered",
  });
  mountPendingRoutes(engine);
  api.collection<MapState>({
    name: "mapstates",
    guard: admission.toMapStates,
    message: SHARED_MAP_STATE,
    table: publisher.mapStates,
    indexes: { identity: (state) => String(state.identity) },
    partsOf: mapStateParts,
    description: "Map state by identity; watch with ?identity=N for those a node hosts",
  });
  api.collection<CidrIdentity>({
    name: "cidridentities",
    guard: admission.toPrefixes,
    message: CidrIdentity,
    table: publisher.cidrIdentities,
    description: "Prefixes that policies mention, and their identities",
  });
  api.collection<FqdnSelector>({
    name: "fqdnselectors",
    guard: admission.toPrefixes,
    message: FqdnSelector,
    table: publisher.fqdnSelectors,
    description: "Selectors of names that policies mention, and their identities",
  });
  api.collection<Rule>({
    name: "rules",
    guard: admission.toState,
    message: Rule,
    table: publisher.rules,
    description: "What each rule cookie stands for",
  });
  api.collection<NodePolicy>({
    name: "nodepolicies",
    guard: admission.toNodePolicies,
    message: NodePolicy,
    list: () => engine.inForce.list(),
    get: (name) => engine.inForce.get(name),
    put: (name, value) => engine.inForce.put(name, value),
    description: "What is in force at each node of the cluster; a node puts its own",
  });
  api.collection<PolicySelection>({
    name: "policyselections",
    message: PolicySelection,
    list: () => {
      const selections = selectionsOf(engine);
      return repository.policies().map((policy) => selections.of(policy));
    },
    get: (name) => {
      const policy = repository.policy(name);
      return policy && selectionsOf(engine).of(policy);
    },
    description: "Whom each policy selects now, and what of it means nobody",
  });
  api.collection<PolicyFault>({
    name: "policyfaults",
    guard: admission.toState,
    message: PolicyFault,
    list: () => engine.follower.faults(),
    get: (name) => engine.follower.faults().find((fault) => fault.name === name),
    description: "Stored policies that cannot be put in force, and why",
  });
  api.action({
    path: "/v1/policies:wait",
    guard: admission.toPolicies,
    request: WaitRequest,
    response: WaitResponse,
    handle: (request) => engine.inForce.wait(request),
    description: "Answers when a policy set is in force at every node, or after the timeout",
  });
  api.action({
    path: "/v1/explain",
    isQuestion: true,
    guard: admission.toState,
    request: ExplainRequest,
    response: ExplainResponse,
    handle: (request) =>
      explainRequest(request, {
        repository,
        cluster: engine.cluster,
        lookup: (address: IpAddress) => engine.directory.entryOf(address),
        prefixesOf: (identity: number) => engine.directory.prefixesOf(identity),
      }),
    description: "Why a connection is allowed or denied, and what would change it",
  });
  api.action({
    method: "GET",
    path: "/v1/revision",
    guard: admission.toState,
    response: EngineRevision,
    handle: () => ({
      policyRevision: repository.policyRevision,
      policies: repository.policyCount,
      identities: repository.selectors.identityCount,
      subjects: publisher.mapStates.size,
      groups: repository.groupCount,
      selectors: repository.selectors.size,
      cidrIdentities: publisher.cidrIdentities.size,
      rules: repository.cookies.size,
      fqdnSelectors: publisher.fqdnSelectors.size,
    }),
    description: "What the engine has resolved",
  });
}

/** @throws {ProblemError} POLICY_INVALID with every fault */
function read(engine: PolicyEngine, text: string, options: ReadManifestsOptions): readonly PolicyValue[] {
  const manifests = readManifests(text, { ...options, cluster: engine.cluster });
  if (manifests.faults.length > 0) throw manifestProblem(manifests, options.file);
  if (manifests.policies.length === 0) {
    throw new ProblemError("POLICY_INVALID", {
      status: 422,
      detail: "Cannot take policies: the text holds none",
      found: "no document",
      expected: "at least one policy",
    });
  }
  return manifests.policies;
}

/** The policies of all texts of a request. @throws {ProblemError} POLICY_INVALID */
function readAll(
  engine: PolicyEngine,
  { manifest, file, files, namespace }: Pick<ApplyRequest, "manifest" | "file" | "files" | "namespace">,
): readonly PolicyValue[] {
  const texts = manifest === "" && files.length > 0 ? files : [{ manifest, file }, ...files];
  const found = new Map<string, PolicyValue>();
  for (const { manifest, file } of texts) {
    for (const policy of read(engine, manifest, { file, namespace: namespace || undefined })) {
      const earlier = found.get(policy.name);
      if (earlier === undefined) found.set(policy.name, policy);
      else throw isTwice(policy, earlier);
    }
  }
  return [...found.values()];
}

function isTwice({ name, file, line }: PolicyValue, earlier: PolicyValue): ProblemError {
  return new ProblemError("POLICY_INVALID", {
    status: 422,
    detail: `Cannot take policies: ${name} is in two files`,
    found: `${earlier.file}:${earlier.line} and ${file}:${line}`,
    expected: "each policy once",
  });
}

/** What was done, and what of it waits to be confirmed. */
function answerOf(
  { repository, store }: PolicyEngine,
  items: PolicyChange[],
  confirm: ConfirmRequest | undefined,
): Partial<ApplyResponse> {
  const pending = confirm && store.pending.get(confirm.id);
  return { policyRevision: repository.policyRevision, items, pending };
}

/** Writes, and answers when the map states reflect it. */
async function apply(
  engine: PolicyEngine,
  policies: readonly PolicyValue[],
  confirm?: ConfirmRequest,
): Promise<PolicyChange[]> {
  const changes = await engine.store.put(policies, confirm);
  await engine.syncPolicies();
  await engine.services?.settle();
  engine.publishNow();
  return withSelections(engine, policies, changes);
}

async function remove(
  engine: PolicyEngine,
  names: readonly string[],
  confirm?: ConfirmRequest,
): Promise<PolicyChange[]> {
  const changes = await engine.store.delete(names, confirm);
  await engine.syncPolicies();
  engine.publishNow();
  return changes;
}

function preview(engine: PolicyEngine, policies: readonly PolicyValue[]): PolicyChange[] {
  const changes = policies.map((policy) => {
    const before = engine.store.policies.get(policy.name);
    const change = !before ? "created" : before.manifest === policy.manifest ? "unchanged" : "configured";
    return { name: policy.name, change, warnings: [...policy.warnings] };
  });
  return withSelections(engine, policies, changes);
}

function selectionsOf(engine: PolicyEngine, applied: readonly PolicyValue[] = []): PolicySelections {
  return new PolicySelections(engine.repository, engine.directory.view(), {
    *sources() {
      for (const { source } of applied) if (source) yield source;
      if (engine.services) yield* engine.services.sources();
    },
  });
}

/** Adds what the cluster as it is now makes of each policy. */
function withSelections(
  engine: PolicyEngine,
  policies: readonly PolicyValue[],
  changes: readonly PolicyChange[],
): PolicyChange[] {
  if (!engine.directory.synced) return [...changes];
  const selections = selectionsOf(engine, policies);
  const byName = new Map(policies.map((policy) => [policy.name, policy]));
  return changes.map((change) => {
    const policy = byName.get(change.name);
    const { warnings } = policy === undefined ? { warnings: [] } : selections.of(policy);
    return { ...change, warnings: [...change.warnings, ...warnings] };
  });
}
