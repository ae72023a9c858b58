"""Puts Claude Code behind the outer fence. Runs at each start of claude-local: stdlib only."""
