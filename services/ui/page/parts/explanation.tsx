/**
 * Why a verdict is what it is, in the policy engine's words: facts, the policy's line, the smallest change.
 * @module
 */
import type { Explanation, ExplanationStep, FlowPolicy, FlowRow } from "../../api.ts";
import { apiUrl } from "../data/api_client.ts";
import { urlOf } from "../data/url_store.ts";
import { useAnswer } from "../data/use_answer.ts";
import { formatDateTime } from "../model/number_format.ts";
import { CopyButton } from "./command_line.tsx";
import { Breakable, Prose } from "./prose.tsx";
import { Notice, Waiting } from "./states.tsx";
import { Badge } from "./verdict.tsx";

/** A policy's name, as a link to its page, with the rule and the line of the file. */
export function PolicyLink({ policy }: { policy: FlowPolicy }) {
  const full = policy.namespace === "" ? policy.policyName : `${policy.namespace}/${policy.policyName}`;
  const place = [
    policy.path,
    policy.file !== ""
      ? `${policy.file.split("/").pop()}:${policy.line}`
      : policy.line > 0
      ? `line ${policy.line}`
      : "",
  ].filter((text) => text !== "").join(" · ");
  return (
    <span className="policy-link">
      <a href={urlOf({ page: "policies", policy: policy.name, selected: "" })}>{full || policy.name}</a>
      {place !== "" && (
        <code className="soft">
          <Breakable text={place} />
        </code>
      )}
    </span>
  );
}

export function PolicyList({ policies }: { policies: readonly FlowPolicy[] }) {
  if (policies.length === 0) return null;
  return (
    <ul className="rows">
      {policies.map((policy) => (
        <li key={`${policy.name} ${policy.path} ${policy.direction}`}>
          <Badge tone={policy.effect === "denied" ? "dropped" : "allowed"}>
            {policy.effect} {policy.direction}
          </Badge>
          <span className="grow">
            <PolicyLink policy={policy} />
          </span>
        </li>
      ))}
    </ul>
  );
}

function Step({ step }: { step: ExplanationStep }) {
  return (
    <li className={`step tone-${step.allowed ? "allowed" : "dropped"}`}>
      <div className="chips">
        <Badge tone={step.allowed ? "allowed" : "dropped"}>
          {step.direction} {step.allowed ? "allowed" : "denied"}
        </Badge>
      </div>
      <p>
        <Prose text={step.reason} />
      </p>
      {step.facts.length > 0 && (
        <ul className="bullets soft">
          {step.facts.map((fact) => (
            <li key={fact}>
              <Prose text={fact} />
            </li>
          ))}
        </ul>
      )}
      {step.nearMiss !== "" && (
        <p className="soft">
          Nearly: <Prose text={step.nearMiss} />
        </p>
      )}
      <PolicyList policies={step.policies} />
      {!step.allowed && step.change !== "" && (
        <div className="change">
          <h4>Smallest change</h4>
          <p>
            <Prose text={step.change} />
          </p>
          {step.alternatives.length > 0 && (
            <ul className="bullets soft">
              {step.alternatives.map((text) => (
                <li key={text}>
                  <Prose text={text} />
                </li>
              ))}
            </ul>
          )}
        </div>
      )}
      {step.manifest !== "" && (
        <details>
          <summary>A policy that allows this and nothing else</summary>
          <div className="command">
            <code>{step.manifest}</code>
            <CopyButton text={step.manifest} label="Copy policy" />
          </div>
        </details>
      )}
      {step.notes.map((note) => (
        <p key={note} className="soft">
          <Prose text={note} />
        </p>
      ))}
    </li>
  );
}

export function ExplanationView({ explanation }: { explanation: Explanation }) {
  return (
    <div className="block">
      <ol className="steps">
        {explanation.steps.map((step) => <Step key={step.direction} step={step} />)}
      </ol>
      <p className="soft">
        By policy revision {explanation.policyRevision}
        {explanation.atUnixS > 0
          ? `, as it held at ${formatDateTime(explanation.atUnixS)}`
          : ", as it holds now"}
      </p>
    </div>
  );
}

/** Identities below this number are of the world, the host and the like: their addresses say more. */
const IDENTITY_OF_LABELS = 256;

/** Who an end is, in a word that the policy engine takes. */
function endWord(end: FlowRow["source"]): string {
  return end.identity >= IDENTITY_OF_LABELS || end.ip === "" ? String(end.identity) : end.ip;
}

/** Asks the policy engine about a flow, and shows what it says. `atUnixS` is the flow's time, for a flow of the past. */
export function FlowExplanation({ flow, atUnixS }: { flow: FlowRow; atUnixS?: number }) {
  // Policy is asked about who opened the connection.
  const [from, to] = flow.reply ? [flow.destination, flow.source] : [flow.source, flow.destination];
  const parameters: [string, string][] = [
    ["from", endWord(from)],
    ["to", endWord(to)],
    ["protocol", flow.protocol],
    ["port", String(to.port)],
  ];
  if (atUnixS !== undefined) parameters.push(["at", String(atUnixS)]);
  const { value, error, loading } = useAnswer<Explanation>(apiUrl("explain", parameters));
  if (value) return <ExplanationView explanation={value} />;
  if (error) {
    return (
      <Notice>
        <p>{error.message}</p>
        {error.action !== "" && <p>{error.action}</p>}
      </Notice>
    );
  }
  return loading ? <Waiting lines={3} /> : null;
}
