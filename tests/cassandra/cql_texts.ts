/**
 * CQL texts that try to look like others: strings, comments and names that hold other statements, constants that run into
 * the word behind them, and what chance does to a text.
 * @module
 */

const TABLES = [
  "ok",
  "secret",
  "ora.ok",
  "ora.secret",
  '"ok"',
  '"secret"',
  '"ora".secret',
  "ora . secret",
  "SECRET",
  "Ora.Ok",
  '"Secret"',
];
const CONSTANTS = [
  ..."1|-1|1.5|1.|1e5|1.5e-3|0x|0xDE|0xadd|1d|1y2mo|1h30m|5ms|7us|P1D|P1Y2M|PT1H|P1W|NaN|-NaN|Infinity|-infinity|true|null|?|:v"
    .split("|"),
  "P0001-02-03T04:05:06",
  "550e8400-e29b-41d4-a716-446655440000",
  "fe0e8400-e29b-41d4-a716-44665544000a",
  "''",
  "'a''b'",
  "' from ora.ok '",
  "'; drop table ok; --'",
  "$$ from ok $$",
  "$$ ' $$",
  "'/*'",
  "'--'",
  "'$$'",
  "'\"'",
];
const BLANKS = [
  " ",
  " ",
  " ",
  " ",
  "\n",
  "\t",
  " /* from ok */ ",
  "/**/",
  " -- from ok\n",
  " // insert into ok\r",
  "/*/ from ok /*/",
  " /* ' */ ",
  ' /* " */ ',
];
const NOISE = [
  ..." '\"$;.,()-/*?:=\n0x1e5PDT\\",
  "$$",
  "--",
  "/*",
  "*/",
  "from ok",
  "insert into ok (k) values (1)",
  "apply batch",
  "\u00a0",
  "µs",
  "''",
  '""',
];

/** @param random numbers in [0,1) */
export function cqlText(random: () => number): string {
  const pick = <T>(list: readonly T[]) => list[Math.floor(random() * list.length)];
  const constant = () => random() < 0.5 ? "?" : pick(CONSTANTS);
  const table = () => pick(TABLES);
  const where = () => ["where", "k", "=", "?", ...(random() < 0.3 ? ["and", "v", "=", constant()] : [])];
  const select = () => [
    "select",
    ...pick([["*"], ["k", ",", "v"], ["json", "*"], ["distinct", "k"], ["count", "(", "*", ")"], [
      "k",
      "as",
      '"from ok"',
    ], ["cast", "(", "v", "as", "text", ")"]]),
    "from",
    table(),
    ...where(),
    ...(random() < 0.2 ? ["allow", "filtering"] : []),
  ];
  const insert =
    () => ["insert", "into", table(), "(", "k", ",", "v", ")", "values", "(", "?", ",", constant(), ")"];
  const update = () => ["update", table(), "set", "v", "=", constant(), ...where()];
  const remove = () => ["delete", ...pick([[], ["v"]]), "from", table(), ...where()];
  const change = () => pick([insert, update, remove])();
  const batch = () => {
    const members = Array.from(
      { length: 1 + Math.floor(random() * 3) },
      () => [...change(), ...(random() < 0.5 ? [";"] : [])],
    ).flat();
    return ["begin", ...pick([[], ["unlogged"]]), "batch", ...members, "apply", "batch"];
  };
  const tokens = pick([select, select, insert, update, remove, batch, batch, batch])();
  const glued = random() < 0.3;
  let text = "";
  for (const [at, token] of tokens.entries()) {
    // Now and then nothing stands between two words that ought to be apart, most of all behind a constant.
    const before = tokens[at - 1] ?? "";
    const loose = /^\W+$/.test(token) || /^\W+$/.test(before);
    const runsOn = glued && CONSTANTS.includes(before) && random() < 0.7;
    text += at === 0 || (loose && random() < 0.3) || runsOn ? "" : pick(BLANKS);
    text += random() < 0.1 && !/["'$]/.test(token) ? token.toUpperCase() : token;
  }
  for (let changes = random() < 0.4 ? 1 + Math.floor(random() * 2) : 0; changes > 0; changes--) {
    const at = Math.floor(random() * (text.length + 1));
    text = text.slice(0, at) + (random() < 0.7 ? pick(NOISE) : "") +
      text.slice(at + (random() < 0.5 ? 1 : 0));
  }
  return text + pick(["", "", ";", " ; "]);
}
