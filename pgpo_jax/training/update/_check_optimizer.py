def check_optimizer(optimizer, params, state):
    return None
