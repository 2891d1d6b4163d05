#!/bin/sh
# Real agent programs behind turnkit, each asked twice in one session, against a scripted model on loopback with a dummy key.
#   npm install --prefix DIR @anthropic-ai/claude-code @openai/codex @google/gemini-cli opencode-ai
#   sh tests/real-agents/run.sh DIR/node_modules/.bin [target/debug/turnkit]
# What is printed is what one reads: text, tools, and how each turn ended. Gemini CLI is also stopped, and killed, in the middle of a turn.
set -eu
bin=$(cd "$1" && pwd)
turnkit=$(realpath "${2:-target/debug/turnkit}")
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'kill $(cat "$work"/*.pid) 2>/dev/null || true; rm -rf "$work"' EXIT
mkdir "$work/home" "$work/here"
echo hello > "$work/here/hello.txt"

python3 "$here/model.py" > "$work/model" &
echo $! > "$work/model.pid"
while ! grep -q listening "$work/model"; do sleep 0.1; done
model=$(sed 's/listening on //' "$work/model")

export PATH="$bin:$PATH" HOME="$work/home"
export ANTHROPIC_API_KEY=dummy-key-of-nobody ANTHROPIC_BASE_URL="$model" OPENAI_API_KEY=dummy-key-of-nobody
export GEMINI_API_KEY=dummy-key-of-nobody GOOGLE_GEMINI_BASE_URL="$model" GEMINI_CLI_TRUST_WORKSPACE=true
export DISABLE_TELEMETRY=1 DISABLE_AUTOUPDATER=1 CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 IS_SANDBOX=1
mkdir -p "$HOME/.codex" "$HOME/.config/opencode" "$HOME/.gemini"
cat > "$HOME/.codex/config.toml" <<END
model = "gpt-5-codex"
model_provider = "scripted"
[model_providers.scripted]
name = "scripted"
base_url = "$model/v1"
env_key = "OPENAI_API_KEY"
wire_api = "responses"
END
cat > "$HOME/.config/opencode/opencode.json" <<END
{ "model": "scripted/m", "autoupdate": false, "permission": "allow", "provider": { "scripted": { "npm": "@ai-sdk/openai-compatible",
  "options": { "baseURL": "$model/v1", "apiKey": "dummy-key-of-nobody" }, "models": { "m": {} } } } }
END
echo '{ "security": { "auth": { "selectedType": "gemini-api-key" } } }' > "$HOME/.gemini/settings.json"

# both "FORMAT OPTIONS OF ask.py" COMMAND…
both() {
    format=${1%% *}
    options=${1#"$format"}
    shift
    echo "== $format: $*"
    : > "$work/substrate"
    "$turnkit" substrate --listen 127.0.0.1:0 --command-format "$format" --command-dir "$work/here" \
        --command-permission allow-once \
        --command-env ANTHROPIC_API_KEY,ANTHROPIC_BASE_URL,OPENAI_API_KEY,GEMINI_API_KEY,GOOGLE_GEMINI_BASE_URL,GEMINI_CLI_TRUST_WORKSPACE \
        --command-env DISABLE_TELEMETRY,DISABLE_AUTOUPDATER,CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC,IS_SANDBOX \
        --command "$@" > "$work/substrate" 2> "$work/log" &
    echo $! > "$work/substrate.pid"
    while ! grep -q listening "$work/substrate"; do sleep 0.1; done
    python3 "$here/ask.py" "$(sed 's/turnkit listening on //' "$work/substrate")" $options || tail -5 "$work/log"
    kill "$(cat "$work/substrate.pid")"
    wait "$(cat "$work/substrate.pid")" || true
}

both claude claude -p --output-format stream-json --verbose --include-partial-messages --allowedTools Bash
both claude claude -p --output-format stream-json --verbose --allowedTools Bash -- '{message}'
both codex codex exec --json --skip-git-repo-check --sandbox read-only
both gemini gemini --output-format stream-json --model gemini-2.5-flash --approval-mode yolo
both acp gemini --acp --model gemini-2.5-flash
both "acp --apart --ends" gemini --acp --model gemini-2.5-flash
both opencode opencode run --format json
both acp opencode acp
