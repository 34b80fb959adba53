/**
 * Explains a connection by what held at another time. Nothing that is in force is looked at: whoever asks brings the policies,
 * identities and addresses, as the flow history tells them. Pure.
 * @module
 */
import { type IpAddress, LabelError, LabelSet, Prefix } from "@weir/common";
import { formatFault } from "@weir/common/manifest";
import type { Identity, IpcacheEntry } from "@weir/proto/identity";
import type { ExplainRequest, ExplainResponse, Policy } from "@weir/proto/policy";
import { explainRequest } from "./explain_request.ts";
import { readManifests } from "./manifest.ts";
import { PolicyRepository } from "./policy_repository.ts";

/** What held. */
export interface PastFacts {
  readonly policies: readonly Policy[];
  readonly identities: readonly Identity[];
  readonly addresses: readonly IpcacheEntry[];
  readonly cluster: string;
}

/** The answer, and what of the facts could not be read: the answer leaves it out. */
export interface PastAnswer {
  readonly response: ExplainResponse;
  readonly unread: readonly string[];
}

/** @throws {ProblemError} INVALID_ARGUMENT, with the field */
export function explainPast(request: ExplainRequest, facts: PastFacts): PastAnswer {
  const repository = new PolicyRepository(), unread: string[] = [];
  for (const { number, labels } of facts.identities) {
    try {
      repository.upsertIdentity(number, LabelSet.parse(labels));
    } catch (error) {
      if (!(error instanceof LabelError)) throw error;
      unread.push(`identity ${number}: ${error.message}`);
    }
  }
  for (const message of facts.policies) {
    const { policies, faults } = readManifests(message.manifest, {
      file: message.file,
      line: Math.max(1, message.line),
      namespace: message.namespace || undefined,
      cluster: facts.cluster,
      isStored: true,
    });
    const policy = policies.find(({ name }) => name === message.name);
    if (policy !== undefined) repository.upsertPolicy(policy);
    else {
      const why = faults[0] ? formatFault(faults[0], message.file) : "it holds another policy";
      unread.push(`policy ${message.name}: ${why}`);
    }
  }
  const byPrefix = new Map(facts.addresses.map((entry) => [entry.prefix, entry]));
  const response = explainRequest(request, {
    repository,
    cluster: facts.cluster,
    lookup: (address: IpAddress) => byPrefix.get(Prefix.host(address).text),
    prefixesOf: (identity) =>
      facts.addresses.filter((entry) => entry.identity === identity).flatMap(({ prefix }) =>
        Prefix.tryParse(prefix) ?? []
      ),
  });
  return { response, unread };
}
