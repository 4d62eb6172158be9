"""LiteLLM's two documented budgets that need no database."""

import asyncio
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from cap import ASKED, DOLLARS_PER_TOKEN, LIMIT, MESSAGES, MODEL, Asked, main

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # no price list from the network
import litellm  # reads the environment

PRICE = {"input_cost_per_token": 0.0, "output_cost_per_token": DOLLARS_PER_TOKEN}


@asynccontextmanager
async def provider_budget(base_url: str, cap: float) -> AsyncIterator[Asked]:
    """docs.litellm.ai/docs/proxy/provider_budget_routing, in the router that the proxy is made of."""
    params = {"model": f"openai/{MODEL}", "api_base": base_url, "api_key": "none", **PRICE}
    router = litellm.Router(
        model_list=[{"model_name": MODEL, "litellm_params": params}],
        provider_budget_config={"openai": {"budget_limit": cap, "time_period": "1d"}},
        num_retries=0,
    )

    async def ask() -> None:
        await router.acompletion(model=MODEL, messages=MESSAGES, max_tokens=LIMIT)

    yield ask


@asynccontextmanager
async def max_budget(base_url: str, cap: float) -> AsyncIterator[Asked]:
    """docs.litellm.ai/docs/budget_manager: `litellm.max_budget`, which counts what `completion` (not `acompletion`) spends."""
    litellm.max_budget = cap
    litellm.register_model({f"openai/{MODEL}": {"litellm_provider": "openai", "mode": "chat", **PRICE}})

    def complete() -> None:
        litellm.completion(
            model=f"openai/{MODEL}",
            messages=MESSAGES,
            max_tokens=LIMIT,
            api_base=base_url,
            api_key="none",
            num_retries=0,
        )

    with ThreadPoolExecutor(ASKED) as threads:

        async def ask() -> None:
            await asyncio.get_running_loop().run_in_executor(threads, complete)

        yield ask


if __name__ == "__main__":
    main({"LiteLLM, provider budget": provider_budget, "LiteLLM, max_budget": max_budget}, "litellm")
