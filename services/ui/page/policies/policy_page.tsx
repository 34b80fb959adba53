/**
 * One policy: who may come in and go out, beside its text with hits per line. A rule and its line show each other.
 * @module
 */
import { useEffect, useRef, useState } from "react";
import type { LineHits, PolicyDetail, PolicyGraphRule } from "../../api.ts";
import { apiUrl } from "../data/api_client.ts";
import { useNow } from "../data/clock.ts";
import { urlOf, useUrlState } from "../data/url_store.ts";
import { useAnswer } from "../data/use_answer.ts";
import { formatAge, formatCount, formatDuration, formatShort } from "../model/number_format.ts";
import { CommandLine, CopyButton } from "../parts/command_line.tsx";
import { CheckIcon, CrossIcon } from "../parts/icons.tsx";
import { Breakable } from "../parts/prose.tsx";
import { Notice, NotYet, StaleNotice } from "../parts/states.tsx";
import { Badge } from "../parts/verdict.tsx";
import { PolicyEditor } from "./policy_editor.tsx";

const EVERY_MS = 4000;

export function PolicyPage({ name }: { name: string }) {
  const now = useNow();
  const { window } = useUrlState();
  const answer = useAnswer<PolicyDetail>(
    apiUrl("policy", [
      ["name", name],
      ...(window
        ? [["since", String(window.sinceUnixS)], ["until", String(window.untilUnixS)]] as [string, string][]
        : []),
    ]),
    window ? 0 : EVERY_MS,
  );
  const [line, setLine] = useState(0), [edits, setEdits] = useState(false);
  const detail = answer.value;
  if (!detail) {
    return (
      <div className="view">
        <Back />
        <NotYet answer={answer} lines={10} />
      </div>
    );
  }
  const { policy } = detail;
  return (
    <div className="view">
      <Back />
      <div
        className="page-scroll scroll"
        tabIndex={0}
        role="region"
        aria-label={`Policy ${policy.policyName}`}
      >
        <div className="page-wide">
          <header className="block">
            <h1>{policy.namespace !== "" ? `${policy.namespace}/` : ""}{policy.policyName || policy.name}</h1>
            <div className="chips">
              {policy.fault !== ""
                ? <Badge tone="dropped">not in force</Badge>
                : <Badge tone="allowed">in force</Badge>}
              <span className="chip">{policy.kind}</span>
              {policy.file !== "" && (
                <span className="chip" title={policy.file}>{policy.file.split("/").pop()}</span>
              )}
            </div>
            <p className="soft number">
              Selects {formatCount(policy.endpoints)}{" "}
              {policy.endpoints === 1 ? "endpoint" : "endpoints"}; decided {formatCount(policy.hits)}{" "}
              flows, denied {formatCount(policy.denied)}, {detail.hitsOf
                ? `of ${detail.hitsOf}`
                : `in the last ${formatDuration(now - detail.hitsSinceUnixS)}`}; last hit{" "}
              {formatAge(policy.lastHitUnixS, now)}
            </p>
          </header>
          <StaleNotice error={answer.error} atMs={answer.atMs} now={now} />
          {policy.fault !== "" && (
            <Notice tone="dropped">
              <p>{policy.fault}</p>
            </Notice>
          )}
          {policy.warnings.map((warning) => (
            <Notice key={warning} tone="audited">
              <p>{warning}</p>
            </Notice>
          ))}
          <Drawing detail={detail} line={line} onLine={setLine} />
          <section className="block">
            <div className="block-head">
              <h2>Text, with hits per line</h2>
              {!edits && (
                <button
                  type="button"
                  className="button small"
                  onClick={() => setEdits(true)}
                >
                  Change and preview
                </button>
              )}
              <CopyButton text={detail.yaml} label="Copy policy" />
            </div>
            <PolicyText detail={detail} line={line} onLine={setLine} now={now} />
          </section>
          {edits && (
            <PolicyEditor
              yaml={detail.yaml}
              file={policy.file.split("/").pop() || "policy.yaml"}
              onClose={() => setEdits(false)}
            />
          )}
          <section className="block">
            <h2>In a terminal</h2>
            <CommandLine text={`weir policy get ${policy.name}`} />
          </section>
        </div>
      </div>
    </div>
  );
}

function Back() {
  return (
    <nav className="tools" aria-label="Policies">
      <a className="button plain" href={urlOf({ policy: "", selected: "" })}>← All policies</a>
    </nav>
  );
}

function Drawing(
  { detail, line, onLine }: { detail: PolicyDetail; line: number; onLine: (line: number) => void },
) {
  const { graph } = detail;
  const side = (direction: "ingress" | "egress") =>
    graph.rules.filter((rule) => rule.direction === direction);
  return (
    <section className="drawing card-box" aria-label="Who may come in and go out">
      <Side
        title="May come in"
        rules={side("ingress")}
        closed={graph.defaultDenyIngress}
        direction="ingress"
        line={line}
        onLine={onLine}
      />
      <div className="drawing-subject">
        <span className="soft">applies to</span>
        <strong>
          <Breakable text={graph.subject || "everything"} />
        </strong>
        <span className="soft number">
          {formatCount(detail.policy.endpoints)} {detail.policy.endpoints === 1 ? "endpoint" : "endpoints"}
        </span>
      </div>
      <Side
        title="May go out"
        rules={side("egress")}
        closed={graph.defaultDenyEgress}
        direction="egress"
        line={line}
        onLine={onLine}
      />
    </section>
  );
}

function Side({ title, rules, closed, direction, line, onLine }: {
  title: string;
  rules: readonly PolicyGraphRule[];
  closed: boolean;
  direction: "ingress" | "egress";
  line: number;
  onLine: (line: number) => void;
}) {
  return (
    <div className={`drawing-side drawing-${direction}`}>
      <h2>{title}</h2>
      <ul>
        {rules.map((rule) => (
          <li key={`${rule.path} ${rule.line}`}>
            <button
              type="button"
              className={`rule tone-${rule.deny ? "dropped" : "allowed"}${
                line === rule.line && line > 0 ? " chosen" : ""
              }`}
              onClick={() => onLine(rule.line)}
              onMouseEnter={() => onLine(rule.line)}
              title={rule.path}
            >
              <span className="rule-peers">
                {(rule.peers.length > 0 ? rule.peers : ["everyone"]).map((peer) => (
                  <span key={peer}>
                    <Breakable text={peer} />
                  </span>
                ))}
              </span>
              <span className="rule-line">
                <span className="rule-ports number">{rule.ports.join(", ") || "any port"}</span>
                <span className="rule-arrow" aria-hidden="true" />
                <span className="rule-hits number">
                  {rule.deny ? <CrossIcon /> : <CheckIcon />}
                  {rule.deny
                    ? `${formatShort(rule.denied)} denied`
                    : `${formatShort(rule.allowed)} let through`}
                </span>
              </span>
            </button>
          </li>
        ))}
        <li>
          <div className={`rule rest tone-${closed ? "dropped" : "quiet"}`}>
            <span className="rule-peers">
              <span>{rules.length > 0 ? "all others" : "everyone"}</span>
            </span>
            <span className="rule-line">
              <span className="rule-ports">any port</span>
              <span className="rule-arrow" aria-hidden="true" />
              <span className="rule-hits">
                {closed ? <CrossIcon /> : <CheckIcon />}
                {closed ? "denied by default" : "not this policy’s matter"}
              </span>
            </span>
          </div>
        </li>
      </ul>
    </div>
  );
}

function PolicyText({ detail, line, onLine, now }: {
  detail: PolicyDetail;
  line: number;
  onLine: (line: number) => void;
  now: number;
}) {
  const hits = new Map<number, LineHits>();
  for (const one of detail.lines) hits.set(one.line, one);
  const list = useRef<HTMLOListElement>(null);
  useEffect(() => {
    const element = list.current, chosen = element?.children[line - 1] as HTMLElement | undefined;
    if (!element || !chosen) return;
    const top = chosen.offsetTop - element.offsetTop;
    if (top < element.scrollTop || top > element.scrollTop + element.clientHeight - 30) {
      element.scrollTop = top - 80;
    }
  }, [line]);
  return (
    <ol className="text scroll" ref={list} tabIndex={0} aria-label="Text of the policy">
      {detail.yaml.replace(/\n$/, "").split("\n").map((text, i) => {
        const hit = hits.get(i + 1);
        return (
          <li key={i} className={line === i + 1 ? "chosen" : ""} onClick={() => hit && onLine(i + 1)}>
            <span className="text-number number">{detail.firstLine + i}</span>
            <span
              className="text-hits number"
              title={hit ? `${hit.path}, last ${formatAge(hit.lastHitUnixS, now)}` : undefined}
            >
              {hit && hit.allowed > 0 && (
                <span className="toned tone-allowed">
                  <CheckIcon />
                  {formatShort(hit.allowed)}
                </span>
              )}
              {hit && hit.denied > 0 && (
                <span className="toned tone-dropped">
                  <CrossIcon />
                  {formatShort(hit.denied)}
                </span>
              )}
            </span>
            <code>
              <YamlLine text={text} />
            </code>
          </li>
        );
      })}
    </ol>
  );
}

/** Keys and comments set apart: enough to find one's way. */
function YamlLine({ text }: { text: string }) {
  const comment = /^(\s*)(#.*)$/.exec(text);
  if (comment) return <span className="yaml-comment">{text}</span>;
  const match = /^(\s*(?:- )*)([^\s:#][^:#]*:)(\s.*|)$/.exec(text);
  if (!match) return <>{text || " "}</>;
  return (
    <>
      {match[1]}
      <span className="yaml-key">{match[2]}</span>
      {match[3]}
    </>
  );
}
