/** What is said of a query parameter that cannot be taken. @module */
import { ProblemError } from "@weir/common/problem";

/** The error of a parameter: what was found, what is expected. */
export function queryInvalid(name: string, value: string, expected: string): ProblemError {
  return new ProblemError("QUERY_INVALID", {
    status: 400,
    detail: `Cannot take ${name}=${value}: expected ${expected}`,
    found: value,
    expected,
  });
}
