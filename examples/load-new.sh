#!/bin/sh
# load-new.sh yellow green 2024-01..: load what is new, and say in a line what became of it. Needs jq.
# It ends as taxi-ingest does, but with 0 where another run is at it.
set -u

result=$(taxi-ingest backfill "$@" --reprocess new --no-wait --json 2>>"${LOG:-load-new.log}")
code=$?
[ "$code" -ne 75 ] || exit 0

printf '%s\n' "$result" | jq -r '
    "\(.status): \(.loaded // 0) months loaded, \(.rows_loaded // 0) rows, \(.failed // 0) failed",
    (.months[]? | select(.status == "failed") | "\(.dataset) \(.month): \(.error)"),
    (.retry // .error // empty), (if .retry then empty else .hint // empty end)'
exit "$code"
