import { deepEqual, equal } from "node:assert/strict";
import { Redactor, secretsOf } from "./redact.ts";

const KEY = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIHdVTf\n-----END EC PRIVATE KEY-----";

const cases: [given: string, expected: string][] = [
  ["postgres://weir:s3cr:et@db:5432/weir?x=1", "postgres://weir:REDACTED@db:5432/weir?x=1"],
  ["at redis://:s3cret@db", "at redis://:REDACTED@db"],
  ["https://example.org:8443/path@2x stays", "https://example.org:8443/path@2x stays"],
  [`before ${KEY} after`, "before -----BEGIN EC PRIVATE KEY-----REDACTED-----END EC PRIVATE KEY----- after"],
  [
    JSON.stringify({ pem: KEY }),
    '{"pem":"-----BEGIN EC PRIVATE KEY-----REDACTED-----END EC PRIVATE KEY-----"}',
  ],
  ["-----BEGIN PRIVATE KEY-----\nMHcCAQ", "-----BEGIN PRIVATE KEY-----REDACTED-----END PRIVATE KEY-----"],
  ["-----BEGIN CERTIFICATE-----\nMIIB", "-----BEGIN CERTIFICATE-----\nMIIB"],
  ["weir join weir-join.eyJ2IjoxfQ now", "weir join weir-join.REDACTED now"],
  ["jwt eyJhbGciOiJSUzI1.eyJpc3MiOiJrdWJlcm.c2lnbmF0dXJl end", "jwt REDACTED end"],
  ["Authorization: Bearer abcdefgh1234", "Authorization: REDACTED REDACTED"],
  ["sent Bearer abcdefgh1234", "sent Bearer REDACTED"],
  ['{"password":"hunter22","port":80}', '{"password":"REDACTED","port":80}'],
  ['{"manifest":"{\\"api_key\\": \\"abc123\\"}"}', '{"manifest":"{\\"api_key\\": \\"REDACTED\\"}"}'],
  ["dbPassword: hunter22\nname: web", "dbPassword: REDACTED\nname: web"],
  ["WEIR_TOKEN=abc123 weir", "WEIR_TOKEN=REDACTED weir"],
  ["weir agent --otlp-token abc123 --ipv4 192.0.2.1", "weir agent --otlp-token REDACTED --ipv4 192.0.2.1"],
  ['{"key":"app","operator":"In","tokens":3}', '{"key":"app","operator":"In","tokens":3}'],
  ["the join token was used", "the join token was used"],
];

for (const [given, expected] of cases) {
  Deno.test(`Redactor.redact() makes of ${JSON.stringify(given.slice(0, 50))} what may be seen`, () => {
    equal(new Redactor().redact(given), expected);
    equal(new Redactor().redact(expected), expected, "once more changes nothing");
  });
}

Deno.test("Redactor.redact() takes out values that are known, however they are written", () => {
  const redactor = new Redactor(['p@ss w"rd', "short"]);
  equal(
    redactor.redact('x p@ss w"rd y p%40ss%20w%22rd z "p@ss w\\"rd" short'),
    'x REDACTED y REDACTED z "REDACTED" short',
  );
});

Deno.test("Redactor.redactJson() leaves JSON that is read as before", () => {
  const value = {
    token: 7,
    password: "hunter22",
    deep: [{ text: 'a\npassword: "x1"\n', secretName: "web" }],
    key: "app",
  };
  deepEqual(JSON.parse(new Redactor().redactJson(JSON.stringify(value))), {
    ...value,
    password: "REDACTED",
    deep: [{ text: 'a\npassword: "REDACTED"\n', secretName: "web" }],
  });
});

Deno.test("secretsOf() knows secrets by the variable's name, and passwords of URLs", () => {
  const found = secretsOf({
    PATH: "/bin",
    WEIR_TOKEN: "abc",
    PGPASSWORD: "def",
    AWS_SECRET_ACCESS_KEY: "ghi",
    KEYBOARD: "de",
    WEIR_DATABASE_URL: "postgres://weir:j%40kl@db/weir",
  });
  deepEqual(found, ["abc", "def", "ghi", "j%40kl", "j@kl"]);
});
