import assert from "node:assert/strict";
import { LabelSet } from "@weir/common";
import { cookieChoice, CookieRegistry, type SourceRef } from "./cookie_registry.ts";
import { readManifests } from "./manifest.ts";
import { PolicyRepository } from "./policy_repository.ts";

/** Names of two policies for which this makes keys of one hash, the one that sorts first in front. */
function collidingNames(keyOf: (name: string) => string): [string, string] {
  const seen = new Map<number, string>();
  for (let i = 0; i < 1_000_000; i++) {
    const name = `p${(Math.imul(i, 0x9e3779b1) >>> 0).toString(36)}${i}`,
      hash = cookieChoice(keyOf(name), 0),
      other = seen.get(hash);
    if (other !== undefined) return keyOf(other) < keyOf(name) ? [other, name] : [name, other];
    seen.set(hash, name);
  }
  throw new Error("No two names collide");
}

const ID = (name: string) => `cnp:default/${name}#spec.ingress[0].fromEndpoints[0]`;
const [FIRST, SECOND] = collidingNames((name) => `INGRESS|rule|${ID(name)}`);

function source(name: string): SourceRef {
  const policy = `cnp:default/${name}`;
  return {
    id: ID(name),
    policy,
    kind: "CiliumNetworkPolicy",
    namespace: "default",
    policyName: name,
    path: "spec.ingress[0].fromEndpoints[0]",
    file: "",
    line: 1,
    labels: [],
  };
}

Deno.test("CookieRegistry gives colliding keys the same cookies whoever comes first", () => {
  const cookies = [[FIRST, SECOND], [SECOND, FIRST]].map((names) => {
    const registry = new CookieRegistry();
    for (const name of names) registry.intern("INGRESS", false, [source(name)]);
    const moved = registry.takeMoved();
    const [first, second] = [FIRST, SECOND].map((name) => registry.intern("INGRESS", false, [source(name)]));
    assert.equal(registry.get(first)!.sources[0].policyName, FIRST);
    assert.equal(registry.get(second)!.sources[0].policyName, SECOND);
    assert.deepEqual([...moved], names[0] === SECOND ? [first] : [], "who lost its cookie is told");
    assert.equal(registry.displaced, 1);
    return [first, second];
  });
  assert.deepEqual(cookies[0], cookies[1]);
  assert.notEqual(cookies[0][0], cookies[0][1]);
});

Deno.test("CookieRegistry gives a key its first choice back when the other is forgotten", () => {
  const registry = new CookieRegistry();
  const first = registry.intern("INGRESS", false, [source(FIRST)]);
  const second = registry.intern("INGRESS", false, [source(SECOND)]);
  assert.deepEqual(
    registry.sweep(new Set([second])),
    [second],
    "the first choice stands for the other one now",
  );
  assert.deepEqual([...registry.takeMoved()], [second]);
  assert.equal(registry.intern("INGRESS", false, [source(SECOND)]), first);
  assert.equal(registry.get(first)!.sources[0].policyName, SECOND);
  assert.equal(registry.displaced, 0);
});

Deno.test("PolicyRepository names the same rules in every order when two cookies collide, and after each is gone", () => {
  const text = (name: string) =>
    `{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: ${name}}, spec: {endpointSelector:
      {matchLabels: {app: ${name}}}, ingress: [{fromEndpoints: [{matchLabels: {app: client}}]}]}}`;
  const label = (app: string) =>
    LabelSet.parse([
      `k8s:app=${app}`,
      "k8s:io.kubernetes.pod.namespace=default",
      "k8s:io.cilium.k8s.policy.cluster=default",
    ]);
  const repositoryWith = (...names: string[]) => {
    const repository = new PolicyRepository();
    repository.upsertIdentity(300, label(FIRST));
    repository.upsertIdentity(301, label(SECOND));
    repository.upsertIdentity(302, label("client"));
    for (const name of names) {
      repository.upsertPolicy(readManifests(text(name)).policies[0]);
      repository.takeChanges();
    }
    return repository;
  };
  const say = (repository: PolicyRepository) => {
    if (repository.cookies.full) repository.sweepCookies();
    repository.takeChanges();
    return [300, 301].map((subject) =>
      repository.mapState(subject)!.entries.map(({ cookie }) => [
        cookie,
        ...repository.cookies.get(cookie)!.sources.map(({ policyName }) => policyName),
      ])
    );
  };
  const one = repositoryWith(FIRST, SECOND), other = repositoryWith(SECOND, FIRST);
  assert.deepEqual(say(other), say(one));
  assert.deepEqual(say(one).map(([[, name]]) => name), [FIRST, SECOND]);
  one.removePolicy(`cnp:default/${FIRST}`);
  one.takeChanges();
  assert.deepEqual(say(one), say(repositoryWith(SECOND)), "as if the other had never been");
});
